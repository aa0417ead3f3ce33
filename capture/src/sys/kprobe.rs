//! Kprobes at addresses, each with a cookie: a perf event of the `kprobe` unit, and a link of a program to it.
//!
//! aya attaches kprobes by the name of a function, and without cookies.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `struct perf_event_attr` up to its fifth version (include/uapi/linux/perf_event.h, 6.1).
#[repr(C)]
#[derive(Default)]
struct PerfEventAttr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    bits: u64,
    wakeup_events: u32,
    breakpoint: u32,
    /// The name of a function; none.
    kprobe_func: u64,
    kprobe_addr: u64,
    branch_sample_type: u64,
    sample_regs_user: u64,
    sample_stack_user: u32,
    clock: i32,
    sample_regs_intr: u64,
    aux_watermark: u32,
    sample_max_stack: u16,
    reserved: u16,
}

const _: () = assert!(size_of::<PerfEventAttr>() == 112);

/// The part of `union bpf_attr` that `BPF_LINK_CREATE` takes for a perf event (include/uapi/linux/bpf.h, 6.1).
#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    cookie: u64,
    rest: [u64; 4],
}

/// The part that `BPF_OBJ_GET_INFO_BY_FD` takes.
#[repr(C)]
struct InfoByFd {
    fd: u32,
    len: u32,
    info: u64,
}

/// `struct bpf_link_info` of the link of a kprobe (include/uapi/linux/bpf.h, 6.12).
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    padding: u32,
    event: u32,
    reserved: u32,
    function: u64,
    function_len: u32,
    offset: u32,
    address: u64,
    missed: u64,
    cookie: u64,
}

const _: () = assert!(std::mem::offset_of!(LinkInfo, missed) == 48);

const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 1 << 3;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_PERF_EVENT: u32 = 41;

/// The number of the unit, as /sys/bus/event_source/devices/kprobe/type says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unit(u32);

impl Unit {
    const FILE: &str = "/sys/bus/event_source/devices/kprobe/type";

    /// That of the running kernel.
    pub(crate) fn of_running_kernel() -> io::Result<Self> {
        let number = std::fs::read_to_string(Self::FILE)?.trim().parse();
        number.map(Self).map_err(io::Error::other)
    }
}

/// A program attached to an instruction, until it is dropped.
#[derive(Debug)]
pub(crate) struct Link(OwnedFd);

impl Link {
    /// Attaches a program of type kprobe. The cookie is what the program gets to tell its probes apart.
    pub(crate) fn attach(program: BorrowedFd<'_>, unit: Unit, address: u64, cookie: u64) -> io::Result<Self> {
        let event = open(unit, address)?;
        let attributes = LinkCreate {
            program: raw(program.as_raw_fd()),
            target: raw(event.as_raw_fd()),
            attach_type: BPF_PERF_EVENT,
            cookie,
            ..LinkCreate::default()
        };
        // SAFETY: the kernel reads as many bytes as it is told, which are those of the struct, and keeps no pointer.
        let fd = unsafe {
            libc::syscall(libc::SYS_bpf, BPF_LINK_CREATE, &raw const attributes, size_of::<LinkCreate>())
        };
        // The link keeps the event.
        owned(fd).map(Self)
    }

    /// How many hits the kernel has skipped because another probe was being handled on that CPU; `None` where it does
    /// not tell (before 6.7).
    pub(crate) fn missed(&self) -> Option<u64> {
        let mut info = LinkInfo::default();
        let mut attributes = InfoByFd {
            fd: raw(self.0.as_raw_fd()),
            len: u32::try_from(size_of::<LinkInfo>()).ok()?,
            info: (&raw mut info) as u64,
        };
        // SAFETY: the kernel writes no more than `len` bytes to `info`, which is as large, and keeps no pointer.
        let result = unsafe {
            libc::syscall(libc::SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, &raw mut attributes, size_of::<InfoByFd>())
        };
        // It says how much it has filled in.
        (result == 0 && attributes.len as usize >= size_of::<LinkInfo>()).then_some(info.missed)
    }
}

/// A perf event for the probe at an address, for all tasks, which no program gets yet.
fn open(unit: Unit, address: u64) -> io::Result<OwnedFd> {
    let attributes = PerfEventAttr {
        kind: unit.0,
        size: size_of::<PerfEventAttr>() as u32,
        kprobe_addr: address,
        ..PerfEventAttr::default()
    };
    let (pid, cpu, group): (libc::pid_t, libc::c_int, libc::c_int) = (-1, 0, -1);
    // SAFETY: the kernel reads as many bytes as the struct says that it has, and keeps no pointer.
    let fd = unsafe {
        libc::syscall(libc::SYS_perf_event_open, &raw const attributes, pid, cpu, group, PERF_FLAG_FD_CLOEXEC)
    };
    owned(fd)
}

/// Descriptors are not negative.
fn raw(fd: libc::c_int) -> u32 {
    fd.unsigned_abs()
}

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    match libc::c_int::try_from(fd) {
        // SAFETY: the kernel has just made it, and nobody else has it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
