//! The hooks: which program belongs to which tracepoint or function, and what that must pass to it.

use lazymmu_abi::Settings;
use lazymmu_inspect::btf::{Argument, Btf};

use crate::Error;

/// One program and what it is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The program's name, which is also that of the tracepoint.
    pub program: &'static str,
    /// The tracepoint with its system, or the function.
    pub name: &'static str,
    /// What it is attached to.
    pub place: Place,
    /// What a kernel without it means.
    pub need: Need,
    /// The prototype that the program is written for, in C. A kernel may pass more after these arguments.
    pub prototype: &'static str,
    arguments: &'static [Argument],
}

/// What it means that a kernel has not what a hook wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// There is no capture.
    Capture,
    /// There is one that sees less.
    Coverage,
    /// Nothing, if the kernel has not that place at all: then what the hook tells of cannot happen there.
    Nothing,
}

/// What a program is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A tracepoint of the drop-in or of the kernel itself.
    Tracepoint,
    /// The entry of a function.
    Function,
    /// The exit of a function, with its arguments.
    Exit,
}

const POINTER: Argument = Argument { size: 8, pointer: true };
const LONG: Argument = Argument { size: 8, pointer: false };
const INT: Argument = Argument { size: 4, pointer: false };
const BOOL: Argument = Argument { size: 1, pointer: false };

/// The hook at the architecture's own enter.
const ARCH_ENTER: &str = "xen_enter_lazy_mmu";
const PAGE_FAULT: &str = "page_fault_kernel";

/// Every hook, in the order of attaching.
///
/// A write is only kept as pending until a section record flushes it. So sections come first and writes last, and
/// detaching goes the other way: whenever a write is seen, everything that could flush it is seen as well, and so is whatever comes upon it
/// while it is pending.
pub const HOOKS: [Hook; 16] = [
    Hook {
        program: "lazy_mmu_section",
        name: "lazy_mmu:lazy_mmu_section",
        place: Place::Tracepoint,
        need: Need::Capture,
        prototype: "(unsigned int op, unsigned int enable_count, unsigned int pause_count, unsigned int context, \
                    unsigned long caller)",
        arguments: &[INT, INT, INT, INT, LONG],
    },
    Hook {
        program: ARCH_ENTER,
        name: "xen_enter_lazy_mmu",
        place: Place::Function,
        need: Need::Nothing,
        prototype: "(void)",
        arguments: &[],
    },
    // 6.1 has it in arch/x86/kernel/paravirt.c, and no other.
    Hook {
        program: ARCH_ENTER,
        name: "paravirt_enter_lazy_mmu",
        place: Place::Function,
        need: Need::Nothing,
        prototype: "(void)",
        arguments: &[],
    },
    Hook {
        program: "xen_leave_lazy_mmu",
        name: "xen_leave_lazy_mmu",
        place: Place::Function,
        need: Need::Nothing,
        prototype: "(void)",
        arguments: &[],
    },
    Hook {
        program: "sched_process_exit",
        name: "sched:sched_process_exit",
        place: Place::Tracepoint,
        need: Need::Capture,
        prototype: "(struct task_struct *p)",
        arguments: &[POINTER],
    },
    Hook {
        program: "sched_switch",
        name: "sched:sched_switch",
        place: Place::Tracepoint,
        need: Need::Capture,
        prototype: "(bool preempt, struct task_struct *prev, struct task_struct *next, unsigned int prev_state)",
        arguments: &[BOOL, POINTER, POINTER, INT],
    },
    Hook {
        program: "lazy_mmu_read",
        name: "lazy_mmu:lazy_mmu_read",
        place: Place::Tracepoint,
        need: Need::Capture,
        prototype: "(void *entry, unsigned long val, unsigned int op, unsigned int context, unsigned long caller)",
        arguments: &[POINTER, LONG, INT, INT, LONG],
    },
    Hook {
        program: "flush_tlb_kernel_range",
        name: "flush_tlb_kernel_range",
        place: Place::Function,
        need: Need::Coverage,
        prototype: "(unsigned long start, unsigned long end)",
        arguments: &[LONG, LONG],
    },
    Hook {
        program: "flush_tlb_mm_range",
        name: "flush_tlb_mm_range",
        place: Place::Function,
        need: Need::Coverage,
        prototype: "(struct mm_struct *mm, unsigned long start, unsigned long end, unsigned int stride_shift, \
                    bool freed_tables)",
        arguments: &[POINTER, LONG, LONG, INT, BOOL],
    },
    Hook {
        program: PAGE_FAULT,
        name: "exceptions:page_fault_kernel",
        place: Place::Tracepoint,
        need: Need::Coverage,
        prototype: "(unsigned long address, struct pt_regs *regs, unsigned long error_code)",
        arguments: &[LONG, POINTER, LONG],
    },
    Hook {
        program: "lazy_mmu_rmw",
        name: "lazy_mmu:lazy_mmu_rmw",
        place: Place::Tracepoint,
        need: Need::Capture,
        prototype: "(void *entry, unsigned long old, unsigned int nr, unsigned int op, unsigned long addr, \
                    unsigned int context, unsigned long caller)",
        arguments: &[POINTER, LONG, INT, INT, LONG, INT, LONG],
    },
    Hook {
        program: "lazy_mmu_write",
        name: "lazy_mmu:lazy_mmu_write",
        place: Place::Tracepoint,
        need: Need::Capture,
        prototype: "(void *entry, unsigned long val, unsigned int nr, unsigned int op, unsigned long addr, \
                    unsigned int context, unsigned long caller)",
        arguments: &[POINTER, LONG, INT, INT, LONG, INT, LONG],
    },
    xen_store("xen_set_pte", "(pte_t *ptep, pte_t pteval)", &[POINTER, LONG]),
    xen_store(
        "xen_ptep_modify_prot_commit",
        "(struct vm_area_struct *vma, unsigned long addr, pte_t *ptep, pte_t pte)",
        &[POINTER, LONG, POINTER, LONG],
    ),
    xen_store("xen_set_pmd", "(pmd_t *ptr, pmd_t val)", &[POINTER, LONG]),
    xen_store("xen_set_pud", "(pud_t *ptr, pud_t val)", &[POINTER, LONG]),
];

/// Stores of a Xen PV guest, at the exit of the function.
const fn xen_store(function: &'static str, prototype: &'static str, arguments: &'static [Argument]) -> Hook {
    Hook { program: function, name: function, place: Place::Exit, need: Need::Nothing, prototype, arguments }
}

/// The system of the drop-in's tracepoints.
const DROP_IN: &str = "lazy_mmu:";

/// Why a hook of the drop-in is not attached where instructions are probed, and others where the drop-in is.
const REPLACED: &str = "other hooks tell the same";

/// Whether the kernel has the drop-in.
pub(crate) fn has_drop_in(btf: &Btf) -> Result<bool, Error> {
    let mut own = HOOKS.iter().filter(|hook| hook.is_of_drop_in());
    own.try_fold(true, |all, hook| {
        Ok(all && btf.tracepoint_arguments(hook.program).map_err(Error::Btf)?.is_some())
    })
}

/// What tells of accesses beside the hooks that every capture has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accesses {
    /// The drop-in.
    DropIn,
    /// A probe plan.
    Plan,
    /// A probe plan, and for stores the functions of Xen PV guests.
    PlanAndStores,
}

impl Accesses {
    /// What there is for this kernel.
    pub(crate) fn of(plan: bool, guest: bool) -> Self {
        match (plan, guest) {
            (false, _) => Self::DropIn,
            (true, false) => Self::Plan,
            (true, true) => Self::PlanAndStores,
        }
    }

    fn replace(self, hook: &Hook) -> bool {
        match hook.place {
            Place::Exit => self != Self::PlanAndStores,
            _ => self != Self::DropIn && hook.is_of_drop_in(),
        }
    }
}

/// What this kernel has for each hook, in their order: `None` if all that it wants, else what is missing. With a probe
/// plan the drop-in's are not wanted.
///
/// # Errors
///
/// If a hook without which there is no capture cannot be attached.
pub(crate) fn check(
    btf: &Btf,
    settings: &Settings,
    accesses: Accesses,
) -> Result<[Option<String>; HOOKS.len()], Error> {
    let mut lacking = Vec::new();
    let mut reasons = [const { None }; HOOKS.len()];
    for (hook, reason) in HOOKS.iter().zip(&mut reasons) {
        if accesses.replace(hook) {
            *reason = Some(REPLACED.to_owned());
            continue;
        }
        let arguments = match hook.place {
            Place::Tracepoint => btf.tracepoint_arguments(hook.program),
            Place::Function | Place::Exit => btf.function_arguments(hook.name),
        };
        let arguments = arguments.map_err(Error::Btf)?;
        match hook.lack(arguments.as_deref(), settings) {
            Some(Lack::Place) if hook.need == Need::Capture => lacking.push(hook.name),
            Some(Lack::Prototype) if hook.need == Need::Capture => {
                return Err(Error::Prototype { name: hook.name, expected: hook.prototype });
            }
            lack => *reason = lack.map(|lack| hook.why(lack)),
        }
    }
    if lacking.is_empty() { Ok(reasons) } else { Err(Error::NoTracepoints { missing: lacking }) }
}

/// The same for a kernel that need not be captured: no hook is an error.
pub(crate) fn reasons(btf: &Btf, settings: &Settings) -> Result<Vec<(&'static Hook, Option<String>)>, Error> {
    let reason = |hook: &'static Hook| {
        let arguments = match hook.place {
            Place::Tracepoint => btf.tracepoint_arguments(hook.program),
            Place::Function | Place::Exit => btf.function_arguments(hook.name),
        };
        let lack = hook.lack(arguments.map_err(Error::Btf)?.as_deref(), settings);
        Ok((hook, lack.map(|lack| hook.why(lack))))
    };
    // The stores of Xen replace instructions of a plan, where there is one.
    HOOKS.iter().filter(|hook| hook.place != Place::Exit).map(reason).collect()
}

/// Why a program cannot be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lack {
    /// The kernel has not that tracepoint or function, or its BTF does not tell.
    Place,
    /// It passes other arguments.
    Prototype,
    /// The program must know where registers are kept.
    Registers,
}

impl Hook {
    fn is_of_drop_in(&self) -> bool {
        self.name.starts_with(DROP_IN)
    }

    fn lack(&self, passed: Option<&[Argument]>, settings: &Settings) -> Option<Lack> {
        match passed {
            None => Some(Lack::Place),
            Some(passed) if !passed.starts_with(self.arguments) => Some(Lack::Prototype),
            Some(_) if self.program == PAGE_FAULT && settings.instruction == Settings::NO_OFFSET => {
                Some(Lack::Registers)
            }
            Some(_) => None,
        }
    }

    fn why(&self, lack: Lack) -> String {
        match (lack, self.place) {
            (Lack::Place, Place::Tracepoint) => format!("the kernel has no tracepoint {}", self.name),
            (Lack::Place, Place::Function | Place::Exit) => {
                format!("the kernel's BTF has no function {}", self.name)
            }
            (Lack::Prototype, _) => format!("the kernel passes other arguments than {}", self.prototype),
            (Lack::Registers, _) => {
                "it is not known where struct pt_regs has the instruction pointer".to_owned()
            }
        }
    }

    /// What a trace says of it; `None` if there is nothing to say, as this kernel has nothing of the kind.
    pub(crate) fn describe(&self, missing: Option<String>) -> Option<lazymmu_trace::Hook> {
        let replaced = missing.as_deref() == Some(REPLACED);
        if replaced || self.need == Need::Nothing && missing == Some(self.why(Lack::Place)) {
            return None;
        }
        let source = match self.place {
            Place::Tracepoint => "dev",
            Place::Function | Place::Exit => "symbol",
        };
        Some(lazymmu_trace::Hook { name: self.name.to_owned(), source: source.to_owned(), missing })
    }
}

/// Whether the architecture's own calls of the mode are hooked.
pub(crate) fn tells_of_cpus(missing: &[Option<String>; HOOKS.len()]) -> bool {
    HOOKS.iter().zip(missing).any(|(hook, missing)| hook.program == ARCH_ENTER && missing.is_none())
}

#[cfg(test)]
mod tests {
    use lazymmu_abi::{Code, Settings};
    use lazymmu_inspect::btf::Btf;

    use super::{Accesses, HOOKS, Lack, Need, Place, check};
    use crate::Error;

    const SETTINGS: Settings = Settings {
        scope: 0,
        enable_count: 0,
        pause_count: 0,
        pid: 0,
        wake_step: 0,
        instruction: 128,
        ring_mask: 0,
        ring_places: 1,
        ring_limit: 0,
        pending_mask: 0,
        stacks: 1,
        by_cpu: 0,
        schedule: Code { start: 0, len: 0 },
        exit: Code { start: 0, len: 0 },
    };

    /// BTF that tells of nothing.
    fn empty() -> Btf {
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        bytes.extend([24, 0, 0, 0, 1].into_iter().flat_map(u32::to_le_bytes));
        bytes.push(0);
        Btf::from_bytes(bytes).unwrap()
    }

    #[test]
    fn only_what_is_required_stops_a_capture() {
        let Err(Error::NoTracepoints { missing }) = check(&empty(), &SETTINGS, Accesses::DropIn) else {
            panic!("accepted")
        };
        let required: Vec<&str> =
            HOOKS.iter().filter(|hook| hook.need == Need::Capture).map(|hook| hook.name).collect();
        assert_eq!(missing, required);
        assert_eq!(required.len(), 6);
    }

    #[test]
    fn a_hook_lacks_its_place_its_arguments_or_what_it_must_know() {
        let unknown = Settings { instruction: Settings::NO_OFFSET, ..SETTINGS };
        for hook in HOOKS {
            assert_eq!(hook.lack(None, &SETTINGS), Some(Lack::Place));
            if let Some(fewer) = hook.arguments.get(1..) {
                assert_eq!(hook.lack(Some(fewer), &SETTINGS), Some(Lack::Prototype));
            }
            assert_eq!(hook.lack(Some(hook.arguments), &SETTINGS), None);
            let registers = (hook.name == "exceptions:page_fault_kernel").then_some(Lack::Registers);
            assert_eq!(hook.lack(Some(hook.arguments), &unknown), registers);
            assert!(hook.why(Lack::Place).ends_with(hook.name));
        }
    }

    #[test]
    fn with_a_plan_the_drop_in_is_not_wanted() {
        let Err(Error::NoTracepoints { missing }) = check(&empty(), &SETTINGS, Accesses::Plan) else {
            panic!("accepted")
        };
        assert_eq!(missing, ["sched:sched_process_exit", "sched:sched_switch"]);
        assert!(!super::has_drop_in(&empty()).unwrap());
        let replaced = Some(super::REPLACED.to_owned());
        let told = HOOKS.iter().filter(|hook| hook.describe(replaced.clone()).is_some());
        assert_eq!(told.count(), 0);
    }

    #[test]
    fn what_a_kernel_cannot_have_is_not_missing() {
        for hook in HOOKS {
            let told = hook.describe(Some(hook.why(Lack::Place)));
            assert_eq!(
                told.is_none(),
                hook.name.contains("_lazy_mmu") && hook.place == Place::Function || hook.place == Place::Exit,
                "{}",
                hook.name
            );
            assert!(hook.describe(Some("refused".to_owned())).is_some());
            assert!(hook.describe(None).is_some());
        }
    }

    #[test]
    fn prototypes_name_as_many_arguments_as_are_checked() {
        for hook in HOOKS {
            assert!(hook.place == Place::Function || hook.name.ends_with(hook.program));
            if hook.arguments.is_empty() {
                assert_eq!(hook.prototype, "(void)");
                continue;
            }
            assert_eq!(hook.prototype.split(',').count(), hook.arguments.len(), "{}", hook.name);
            for (text, argument) in hook.prototype.split(',').zip(hook.arguments) {
                assert_eq!(text.contains('*'), argument.pointer, "{text}");
                assert_eq!(text.contains(" int "), argument.size == 4, "{text}");
            }
        }
    }
}
