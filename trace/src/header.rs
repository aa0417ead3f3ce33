//! What a trace says about itself before its first record: which machine, which kernel, which hooks.
//!
//! Plain data, the same for a recording and for a live session. Fields may be added in a minor version of the
//! format, each with a default, so that older traces still read; fields unknown to a reader are ignored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The header of a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The version of the lazymmu that recorded it.
    pub lazymmu: String,
    /// The kernel that was traced.
    pub kernel: Kernel,
    /// What the times of the records mean.
    pub clock: Clock,
    /// How it was recorded.
    #[serde(default)]
    pub capture: Capture,
    /// What was hooked.
    #[serde(default)]
    pub plan: Plan,
}

/// The kernel that was traced, and its machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// `uname -r`
    pub release: String,
    /// `uname -v`
    #[serde(default)]
    pub version: String,
    /// The GNU build id in hexadecimal, if the kernel tells it.
    #[serde(default)]
    pub build_id: Option<String>,
    /// `uname -m`
    pub architecture: String,
    /// Bytes of a page.
    pub page_size: u32,
    /// The name of the layout of a page-table entry, which says what its bits mean.
    pub pte_layout: String,
    /// How many CPUs the machine may have.
    #[serde(default)]
    pub cpus: u32,
    /// The fields that the eBPF programs read, with their offsets in bytes, as `struct.field`.
    #[serde(default)]
    pub btf_offsets: BTreeMap<String, u32>,
}

/// What the times of the records mean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// The clock of [`lazymmu_abi::Record::time`]; always nanoseconds.
    pub source: String,
    /// When the capture began by that clock, in ns.
    pub started: u64,
    /// The same moment for people: ns since 1970 in UTC. Nothing is judged by it.
    pub wall_clock: u64,
}

/// How the trace was recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capture {
    /// Which accesses were recorded: `sections` for those inside a section, `all` for every one.
    pub level: String,
    /// Bytes of the ring buffer between the kernel and lazymmu.
    pub ring_bytes: u64,
    /// The command that ran meanwhile; empty if there was none.
    pub command: Vec<String>,
    /// The filter by which records were left out; `None` if all are there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

/// What was hooked, and what could not be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Plan {
    /// Every hook that the plan asks for.
    pub hooks: Vec<Hook>,
    /// What became of the instructions of a probe plan; `None` if there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sites: Option<Sites>,
}

/// What became of the instructions that a probe plan names. Every one is counted once: `hooked`, `covered`,
/// `unaddressed` and the refused make `found`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sites {
    /// All that the plan knows.
    pub found: u64,
    /// Probed.
    pub hooked: u64,
    /// Not probed, as another probe tells of the same access.
    pub covered: u64,
    /// Not probed, as nothing tells where the entry is that they access.
    pub unaddressed: u64,
    /// Not probed, as the kernel does not let them be.
    pub refused: Vec<Refused>,
    /// What the plan cannot know of, in words.
    pub blind: Vec<String>,
}

/// Instructions that the kernel does not let be probed, for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Refused {
    /// Why.
    pub why: String,
    /// Whether the plan said so. Else the kernel did when it was tried.
    pub foreseen: bool,
    /// How many.
    pub count: u64,
    /// The functions in which they are.
    pub functions: Vec<String>,
}

impl Sites {
    /// How many the kernel does not let be probed.
    pub fn refused(&self) -> u64 {
        self.refused.iter().map(|refused| refused.count).sum()
    }
}

/// One hook of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hook {
    /// What it watches, for instance `lazy_mmu:lazy_mmu_write`.
    pub name: String,
    /// Where it comes from: `dev`, `symbol`, `site` or `state`.
    pub source: String,
    /// Why it is not there; `None` if it was attached.
    pub missing: Option<String>,
}

impl Plan {
    /// How many hooks were attached, and how many the plan asks for. Instructions are not counted here.
    pub fn coverage(&self) -> (usize, usize) {
        (self.hooks.iter().filter(|hook| hook.missing.is_none()).count(), self.hooks.len())
    }
}

impl Header {
    /// Says what makes a header unusable although it is well formed.
    pub(crate) fn check(&self) -> Result<(), String> {
        let size = self.kernel.page_size;
        if !size.is_power_of_two() || !(1 << 10..=1 << 30).contains(&size) {
            return Err(format!("a page cannot have {size} bytes"));
        }
        Ok(())
    }
}

/// A header for tests and examples: x86-64 with pages of 4 KiB and nothing else known.
impl Default for Header {
    fn default() -> Self {
        Self {
            lazymmu: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: Kernel::default(),
            clock: Clock::default(),
            capture: Capture::default(),
            plan: Plan::default(),
        }
    }
}

impl Default for Kernel {
    fn default() -> Self {
        Self {
            release: String::new(),
            version: String::new(),
            build_id: None,
            architecture: "x86_64".to_owned(),
            page_size: 4096,
            pte_layout: "x86_64".to_owned(),
            cpus: 1,
            btf_offsets: BTreeMap::new(),
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self { source: "CLOCK_MONOTONIC".to_owned(), started: 0, wall_clock: 0 }
    }
}
