//! Makes a plan of an image: asks the sources, unites what they found, and judges it.

use std::fmt::Write as _;

use lazymmu_abi::{Kind, Level, Op};
use rustc_hash::{FxHashMap, FxHashSet};

use super::accessors::{ACCESSORS, BEHIND_PV_OPS, PV_OPS};
use super::calls::{self, Called, PvTable};
use super::candidates::{Candidate, Candidates, Cover};
use super::copies::Copies;
use super::dwarf::{DwarfError, Sections};
use super::flow::Follower;
use super::inlined::{ModeCounters, Search};
use super::model::{
    Evidence, Kernel, MadeFrom, Plan, Probe, Source, StateField, TextOffset, Verdict, Version,
};
use super::refusals::Refusals;
use super::typed::{Typed, raw};
use super::unit::UnitView;
use crate::address::LinkAddr;
use crate::arch::x86::{InfoFactory, Instructions};
use crate::btf::{Btf, BtfError, PointerTypes};
use crate::image::{Image, ImageError};

/// The drop-in's tracepoints (kernel/include/trace/events/lazy_mmu.h).
const TRACEPOINTS: [&str; 4] = ["lazy_mmu_section", "lazy_mmu_read", "lazy_mmu_write", "lazy_mmu_rmw"];

/// The counters of the mode (include/linux/mm_types_task.h, 7.0 and later).
const STATE: [&str; 2] = ["lazy_mmu_state.enable_count", "lazy_mmu_state.pause_count"];

/// Where a Xen PV guest before 7.0 leaves the mode and enters it again as tasks are switched. These calls are the architecture's own,
/// and hooks at the functions that are called tell of them (arch/x86/xen/enlighten_pv.c, 6.12; arch/x86/kernel/paravirt.c, 6.1).
const SWITCHES: [&str; 4] = [
    "xen_start_context_switch",
    "xen_end_context_switch",
    "paravirt_start_context_switch",
    "paravirt_end_context_switch",
];

/// Why no plan could be made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The image is unusable.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Its debug information is.
    #[error("make a plan of {}: {source}", .path.display())]
    Dwarf {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong.
        source: DwarfError,
    },
    /// It is a module that does not go with the kernel.
    #[error("make a plan of the module {}: {reason}", .path.display())]
    Module {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        reason: String,
    },
    /// Its type information is.
    #[error("make a plan of {}: {source}", .path.display())]
    Btf {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong.
        source: BtfError,
    },
}

impl Plan {
    /// Finds every place in an image. What the drop-in tells, if the kernel has it, is left to its tracepoints.
    pub fn of(image: &Image) -> Result<Self, MakeError> {
        Self::of_kernel(image, true)
    }

    /// The same as if the kernel had not the drop-in: its instructions are to tell all.
    ///
    /// # Errors
    ///
    /// As [`Plan::of`].
    pub fn of_instructions(image: &Image) -> Result<Self, MakeError> {
        Self::of_kernel(image, false)
    }

    fn of_kernel(image: &Image, by_tracepoints: bool) -> Result<Self, MakeError> {
        let bad_btf = |source| MakeError::Btf { path: image.path().to_owned(), source };
        let btf = image.btf()?;
        let types = btf.as_ref().map(Btf::pointer_types).transpose().map_err(bad_btf)?.unwrap_or_default();
        Self::made(image, btf, &types, by_tracepoints)
    }

    /// Adds the plan of a module of this kernel, whose type information is given.
    ///
    /// # Errors
    ///
    /// If the module is of another kernel, or unusable, or in the plan already.
    pub fn add_module(&mut self, module: &Image, btf: Btf) -> Result<(), MakeError> {
        let refused = |reason: String| MakeError::Module { path: module.path().to_owned(), reason };
        let Some(name) = module.module_name() else { return Err(refused("it is no module".to_owned())) };
        if let (Some(wanted), Some(found)) = (&self.kernel.release, module.release())
            && *wanted != found
        {
            return Err(refused(format!("it is for Linux {found}, and the plan is for {wanted}")));
        }
        if self.modules.iter().any(|known| known.kernel.module.as_ref() == Some(&name)) {
            return Err(refused(format!("the plan has the module {name} already")));
        }
        // What the kernel's type information says of functions is not of this module's.
        let by_tracepoints = !self.tracepoints.is_empty();
        let mut plan = Self::made(module, Some(btf), &PointerTypes::default(), by_tracepoints)?;
        plan.kernel.module = Some(name);
        (plan.tracepoints, plan.state) = (Vec::new(), Vec::new());
        self.version = Version::CURRENT;
        self.modules.push(plan);
        Ok(())
    }

    fn made(
        image: &Image,
        btf: Option<Btf>,
        types: &PointerTypes,
        by_tracepoints: bool,
    ) -> Result<Self, MakeError> {
        let bad_btf = |source| MakeError::Btf { path: image.path().to_owned(), source };
        let state = state(btf.as_ref()).map_err(bad_btf)?;
        let known = btf.as_ref().filter(|_| by_tracepoints);
        let tracepoints = tracepoints(known).map_err(bad_btf)?;
        let pv = PvTable::of(image, btf.as_ref(), !state.is_empty());
        drop(btf);
        let maker = Maker {
            image,
            copies: Copies::of(image),
            candidates: Candidates::default(),
            refusals: Refusals::read(image),
            follower: Follower::new(image, types),
            followed: FxHashSet::default(),
            pv,
        };
        let debug_info = image.has_debug_info();
        let probes = maker.run(counters(&state), !tracepoints.is_empty());
        let probes = probes.map_err(|source| MakeError::Dwarf { path: image.path().to_owned(), source })?;
        Ok(Self {
            version: Version::CURRENT,
            kernel: Kernel {
                release: image.release(),
                build_id: image.build_id().map(ToString::to_string),
                architecture: image.architecture(),
                module: None,
                nesting: !state.is_empty(),
            },
            made_from: MadeFrom {
                image: image.kind().name().to_owned(),
                debug_info,
                symbols: image.symbols_from().to_owned(),
                lazymmu: env!("CARGO_PKG_VERSION").to_owned(),
            },
            tracepoints,
            state,
            probes,
            modules: Vec::new(),
        })
    }
}

pub(super) fn state(btf: Option<&Btf>) -> Result<Vec<StateField>, BtfError> {
    let Some(btf) = btf else { return Ok(Vec::new()) };
    let mut fields = Vec::new();
    for member in STATE {
        let found = (btf.member_offset("task_struct", member)?, btf.member_size("task_struct", member)?);
        if let (Some(offset), Some(size)) = found {
            fields.push(StateField { field: format!("task_struct.{member}"), offset, size });
        }
    }
    Ok(fields)
}

fn counters(state: &[StateField]) -> Option<ModeCounters> {
    let [enable, pause] = state else { return None };
    Some(ModeCounters { enable: enable.offset, pause: pause.offset })
}

fn tracepoints(btf: Option<&Btf>) -> Result<Vec<String>, BtfError> {
    let Some(btf) = btf else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for name in TRACEPOINTS {
        if btf.has_typedef(&format!("btf_trace_{name}"))? {
            found.push(name.to_owned());
        }
    }
    Ok(found)
}

/// A read of which it is not known whether an accessor made it: nothing says what was inlined.
fn plain_read(level: Level) -> Op {
    match level {
        Level::Pmd => Op::PmdpGet,
        Level::Pud => Op::PudpGet,
        _ => Op::PtepGet,
    }
}

struct Maker<'a> {
    image: &'a Image,
    pv: PvTable,
    copies: Copies,
    candidates: Candidates,
    refusals: Refusals<'a>,
    follower: Follower<'a>,
    /// Where the functions begin that pointers were followed through.
    followed: FxHashSet<u64>,
}

impl Maker<'_> {
    fn run(mut self, counters: Option<ModeCounters>, dropin: bool) -> Result<Vec<Probe>, DwarfError> {
        if self.image.has_debug_info() {
            self.debug_info(counters)?;
        }
        self.copies.learn_from_code(self.image, &self.pv);
        self.follow_rest();
        self.calls();
        self.functions();
        let candidates = std::mem::take(&mut self.candidates);
        let living = candidates.into_sorted().filter(|(address, _)| !self.is_dead(*address));
        Ok(living.map(|(address, candidate)| self.probe(address, candidate, dropin)).collect())
    }

    /// Whether no function holds an address: the code of a weak function that another one took the place of is still in
    /// the image, behind the end of its neighbour, and nobody calls it.
    fn is_dead(&self, address: LinkAddr) -> bool {
        self.image.functions().at(address).is_some_and(|function| address >= function.end)
    }

    fn debug_info(&mut self, counters: Option<ModeCounters>) -> Result<(), DwarfError> {
        let sections = Sections::load(self.image.elf())?;
        let names: FxHashSet<&[u8]> = ACCESSORS.iter().map(|accessor| accessor.name.as_bytes()).collect();
        sections.for_each_unit(&names, |at, bytes| {
            let damaged = |source| DwarfError::Unit { unit: at, source };
            let dwarf = sections.dwarf(bytes).map_err(damaged)?;
            let Some(unit) = Sections::unit(&dwarf).map_err(damaged)? else { return Ok(()) };
            let view = UnitView::new(self.image, &sections, &dwarf, &unit, at)?;
            self.copies.learn(&view)?;
            let mut search = Search {
                view: &view,
                pv: &self.pv,
                counters,
                strangers: FxHashMap::default(),
                info: InfoFactory::default(),
            };
            search.run(&mut self.candidates)?;
            let mut typed = Typed {
                view: &view,
                follower: &self.follower,
                followed: &mut self.followed,
                info: &mut search.info,
            };
            typed.run(&mut self.candidates)
        })
    }

    /// Follows pointers through the functions that debug information says nothing of.
    fn follow_rest(&mut self) {
        let mut info = InfoFactory::default();
        let debug_info = self.image.has_debug_info();
        for function in self.image.functions().iter() {
            if self.followed.contains(&function.start.0) {
                continue;
            }
            for (at, level, access) in self.follower.accesses(self.image, function, &[], &mut info) {
                let mut candidate = raw(&access, level, Evidence::Dataflow);
                if candidate.op == Op::RawRead && !debug_info {
                    candidate.op = plain_read(level);
                }
                self.candidates.add(at, candidate);
            }
        }
    }

    /// Calls through `pv_ops` and of copies.
    fn calls(&mut self) {
        for (address, called) in calls::find(self.image, &self.pv, self.copies.accessors()) {
            let candidate = match called {
                Called::Paravirt(pv) => {
                    let mut candidate = Candidate::call(&pv.accessor, Source::Site, Evidence::ParavirtCall);
                    candidate.op = self.pv.op(pv);
                    candidate.patched = true;
                    candidate
                }
                Called::Copy(start, accessor) => {
                    let mut candidate =
                        self.copies.candidate(start, accessor, Source::Site, Evidence::AccessorCall);
                    // Where the copy itself takes a probe, that one tells of every call.
                    if self.refusals.check(start).is_none() {
                        candidate.covered = Some(Cover::Name(self.name(start)));
                    }
                    candidate
                }
            };
            self.candidates.add(address, candidate);
        }
    }

    /// The entries of out-of-line accessors and of what stands behind `pv_ops`, and what is inside of them.
    fn functions(&mut self) {
        let mut starts: Vec<_> =
            self.copies.accessors().iter().map(|(start, accessor)| (*start, *accessor)).collect();
        starts.sort_unstable_by_key(|(start, _)| *start);
        for (start, accessor) in starts {
            let start = LinkAddr(start);
            let mut candidate =
                self.copies.candidate(start, accessor, Source::Symbol, Evidence::FunctionName);
            if let Some((_, member)) = BEHIND_PV_OPS.iter().find(|(name, _)| *name == accessor.name) {
                candidate.covered = Some(Cover::Name(format!("pv_ops.{member}")));
            }
            self.function(start, candidate);
        }
        // From 7.0 on nothing else tells of the flush that a switch is.
        for name in SWITCHES.into_iter().filter(|_| !self.pv.nests()) {
            let Some(function) = self.image.functions().named(name) else { continue };
            for (_, inner) in self.candidates.in_range(function.start, function.end) {
                inner.covered.get_or_insert_with(|| Cover::Name(name.to_owned()));
            }
        }
        for (name, member) in BEHIND_PV_OPS {
            let function = self.image.functions().named(name);
            let pv = PV_OPS.iter().find(|pv| pv.member == member);
            if let (Some(function), Some(pv)) = (function, pv)
                && !self.copies.accessors().contains_key(&function.start.0)
            {
                let mut candidate = Candidate::call(&pv.accessor, Source::Symbol, Evidence::FunctionName);
                candidate.op = self.pv.op(pv);
                if !self.pv.is_empty() {
                    candidate.covered = Some(Cover::Name(format!("pv_ops.{member}")));
                }
                self.function(function.start, candidate);
            }
        }
    }

    fn function(&mut self, start: LinkAddr, candidate: Candidate) {
        let Some(function) = self.image.functions().at(start) else { return };
        let name = self.name(start);
        for (_, inner) in self.candidates.in_range(function.start, function.end) {
            inner.covered.get_or_insert_with(|| Cover::Name(name.clone()));
        }
        self.candidates.add(start, candidate);
    }

    fn name(&self, address: LinkAddr) -> String {
        self.image.functions().at(address).map_or_else(|| "?".to_owned(), |function| function.name.to_owned())
    }

    fn probe(&self, address: LinkAddr, candidate: Candidate, dropin: bool) -> Probe {
        let function = self.image.functions().at(address);
        let told = dropin && !candidate.op.is_raw() && candidate.kind != Kind::Section;
        let verdict = match (&candidate.covered, self.refusals.check(address)) {
            _ if told => Verdict::Covered { by: "the drop-in's tracepoints".to_owned() },
            (Some(Cover::Name(by)), _) => Verdict::Covered { by: by.clone() },
            (Some(Cover::Address(by)), _) => Verdict::Covered { by: format!("_text+{}", self.offset(*by)) },
            (None, Some(reason)) => Verdict::Refused { reason },
            (None, None) => Verdict::Probe,
        };
        Probe {
            address: self.offset(address),
            function: self.name(address),
            offset: function.map_or(0, |function| address.0 - function.start.0),
            source: candidate.source,
            kind: candidate.kind,
            op: candidate.op,
            level: candidate.level,
            entry: candidate.entry,
            size: candidate.size,
            count: candidate.count,
            read: candidate.read,
            written: candidate.written,
            inlined: candidate.inlined,
            file: candidate.file,
            found: candidate.found,
            code: self.code(address),
            patched: candidate.patched,
            verdict,
        }
    }

    fn offset(&self, address: LinkAddr) -> TextOffset {
        TextOffset(address.0.wrapping_sub(self.image.base().0))
    }

    /// The bytes of the instruction.
    fn code(&self, address: LinkAddr) -> String {
        let mut text = String::new();
        let Some(section) = self.image.section_of(address) else { return text };
        let rest = &section.bytes[(address.0 - section.start.0) as usize..];
        let rest = &rest[..rest.len().min(15)];
        if let Some(insn) = Instructions::new(rest, address.0).next() {
            for byte in &rest[..(insn.end() - insn.address()) as usize] {
                let _ = write!(text, "{byte:02x}");
            }
        }
        text
    }
}
