//! From a return address to the functions it is in, with source lines and inlined functions where a vmlinux is
//! at hand.
//!
//! It degrades and never fails: without a vmlinux there are function names only, and an address without a name
//! becomes a frame that shows the address.

use std::fmt;

use lazymmu_trace::Frame;
use rustc_hash::FxHashMap;

use crate::address::{LinkAddr, RuntimeAddr, Slide};
use crate::kallsyms::{Kallsyms, Symbol};
use crate::lines::{LineFrame, Lines};
use crate::vmlinux::Vmlinux;

/// The functions of the drop-in, whose frames say nothing about the kernel: the inline wrappers around the
/// accessors and what they call when somebody listens.
const HOOK_PREFIXES: [&str; 2] = ["__lmh_", "__lazy_mmu_"];

/// Whether frames have source lines, and if not, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceLines {
    /// They have.
    Known,
    /// There is no vmlinux.
    NoVmlinux,
    /// The symbols of the vmlinux and of the running kernel have no common mark, so addresses cannot be brought
    /// from one to the other.
    NoSlide,
    /// The vmlinux has debug information that cannot be read, at least in part.
    Damaged(String),
}

impl fmt::Display for SourceLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known => f.write_str("source lines and inlined functions are known"),
            Self::NoVmlinux => f.write_str("no source lines: there is no vmlinux of this kernel"),
            Self::NoSlide => f.write_str(
                "no source lines: neither _text nor _stext is in both the kernel's symbols and the vmlinux",
            ),
            Self::Damaged(reason) => write!(f, "some source lines are missing: {reason}"),
        }
    }
}

/// Names addresses of one running kernel.
pub struct Symbolizer {
    kallsyms: Kallsyms,
    source: Option<Source>,
    source_lines: SourceLines,
    cache: FxHashMap<RuntimeAddr, Vec<Frame>>,
}

struct Source {
    vmlinux: Vmlinux,
    slide: Slide,
    /// Read when the first address is asked for.
    lines: Option<Lines>,
}

impl Symbolizer {
    /// Takes the symbols of the running kernel and, if there is one, the vmlinux it was made of.
    pub fn new(kallsyms: Kallsyms, vmlinux: Option<Vmlinux>) -> Self {
        let (source, source_lines) = match vmlinux {
            None => (None, SourceLines::NoVmlinux),
            Some(vmlinux) => match slide(&kallsyms, &vmlinux) {
                None => (None, SourceLines::NoSlide),
                Some(slide) => (Some(Source { vmlinux, slide, lines: None }), SourceLines::Known),
            },
        };
        Self { kallsyms, source, source_lines, cache: FxHashMap::default() }
    }

    /// Whether frames have source lines; what was asked so far may have shown damage.
    pub fn source_lines(&self) -> &SourceLines {
        &self.source_lines
    }

    /// The functions at a return address: inlined ones first, the one that holds the text last. Those of the
    /// hook are left out; if the address is in the hook itself, nothing is left.
    pub fn frames(&mut self, return_address: RuntimeAddr) -> &[Frame] {
        if !self.cache.contains_key(&return_address) {
            let frames = self.look_up(return_address);
            self.cache.insert(return_address, frames);
        }
        self.cache.get(&return_address).map_or(&[], Vec::as_slice)
    }

    fn look_up(&mut self, address: RuntimeAddr) -> Vec<Frame> {
        let call = address.before_return();
        let symbol = self.kallsyms.lookup(call).map(|symbol| {
            // The offset is shown as the kernel shows it: that of the return address.
            Symbol { offset: symbol.offset + 1, ..symbol }
        });
        let Some(symbol) = symbol else { return vec![unnamed(address)] };
        let in_kernel = symbol.module.is_none();
        let outer = Frame {
            function: symbol.name.to_owned(),
            offset: symbol.offset,
            module: symbol.module.map(str::to_owned),
            file: None,
            line: None,
            inlined: false,
        };
        // A vmlinux knows nothing of modules.
        let lines = if in_kernel { self.lines_at(call) } else { Vec::new() };
        let mut frames = with_lines(outer, lines);
        frames.retain(|frame| !HOOK_PREFIXES.iter().any(|prefix| frame.function.starts_with(prefix)));
        frames
    }

    fn lines_at(&mut self, address: RuntimeAddr) -> Vec<LineFrame> {
        let Some(source) = &mut self.source else { return Vec::new() };
        match source.frames(source.slide.to_link(address)) {
            Ok(frames) => frames,
            Err(error) => {
                self.source_lines = SourceLines::Damaged(error.to_string());
                if source.lines.is_none() {
                    self.source = None;
                }
                Vec::new()
            }
        }
    }
}

impl Source {
    fn frames(&mut self, address: LinkAddr) -> Result<Vec<LineFrame>, crate::lines::LinesError> {
        let elf = &self.vmlinux.elf;
        let lines = match &mut self.lines {
            Some(lines) => lines,
            empty => empty.insert(Lines::load(elf, self.vmlinux.landmark)?),
        };
        lines.frames(elf, address)
    }
}

fn slide(kallsyms: &Kallsyms, vmlinux: &Vmlinux) -> Option<Slide> {
    let marks = [("_text", vmlinux.text), ("_stext", vmlinux.stext)];
    marks.into_iter().find_map(|(name, link)| Some(Slide::between(link?, kallsyms.address_of(name)?)))
}

/// The last line belongs to the function that the symbol table names, the others were inlined into it.
fn with_lines(outer: Frame, mut lines: Vec<LineFrame>) -> Vec<Frame> {
    let Some(last) = lines.pop() else { return vec![outer] };
    let inlined = lines.into_iter().map(|line| Frame {
        function: line.function.unwrap_or_else(|| "?".to_owned()),
        offset: 0,
        module: None,
        file: line.file,
        line: line.line,
        inlined: true,
    });
    let mut frames: Vec<Frame> = inlined.collect();
    frames.push(Frame { file: last.file, line: last.line, ..outer });
    frames
}

fn unnamed(address: RuntimeAddr) -> Frame {
    Frame { function: address.to_string(), offset: 0, module: None, file: None, line: None, inlined: false }
}
