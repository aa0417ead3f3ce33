//! Who is at the other end of a socket: whether it may talk to us, and whether it may see addresses of the kernel.

use std::{fs, io};

use lazymmu_protocol::Addresses;
use rustix::process::{Gid, Uid, getgid, getuid};
use tokio::net::unix::UCred;

/// Bit 34 (include/uapi/linux/capability.h).
const CAP_SYSLOG: u64 = 1 << 34;

/// What a process says of itself in /proc/PID/status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Told {
    groups: Vec<u32>,
    effective: u64,
}

/// Who may talk to us: root, ourselves, and the members of the socket's group. The socket's mode says the same; this
/// holds also for who got the socket from somebody else.
pub(super) fn may_talk(peer: UCred, group: Option<Gid>) -> bool {
    let group = group.unwrap_or_else(getgid).as_raw();
    let uid = Uid::from_raw(peer.uid());
    let member = || told(peer).is_some_and(|told| told.groups.contains(&group));
    uid.is_root() || uid == getuid() || peer.gid() == group || member()
}

/// What it may see. The kernel shows its addresses to who has CAP_SYSLOG (kallsyms_show_value(), kernel/ksyms_common.c,
/// 7.2). What a process is allowed may have changed since it connected, and belongs to whoever it is now; that cannot
/// make a difference where the one who connected was root already. So only root is asked, and is in a namespace of
/// users of its own unless its ids are what ours are.
pub(super) fn sees(peer: UCred) -> Addresses {
    let same_users = || {
        let map = |of: &str| fs::read_to_string(format!("/proc/{of}/uid_map"));
        match map("self") {
            Ok(ours) => peer.pid().and_then(|pid| map(&pid.to_string()).ok()).is_some_and(|map| map == ours),
            // A kernel without such namespaces.
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    };
    let allowed = || told(peer).is_some_and(|told| told.effective & CAP_SYSLOG != 0);
    if peer.uid() == 0 && allowed() && same_users() { Addresses::Shown } else { Addresses::Hidden }
}

fn told(peer: UCred) -> Option<Told> {
    let text = fs::read_to_string(format!("/proc/{}/status", peer.pid()?)).ok()?;
    Some(parse(&text))
}

fn parse(status: &str) -> Told {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let groups = field("Groups:").unwrap_or_default().split_whitespace();
    Told {
        groups: groups.filter_map(|group| group.parse().ok()).collect(),
        effective: field("CapEff:")
            .and_then(|text| u64::from_str_radix(text.trim(), 16).ok())
            .unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_says_of_itself() {
        let text =
            "Name:\tx\nUid:\t0\t0\t0\t0\nGroups:\t4 24 1000 \nCapEff:\t0000000400000000\nSeccomp:\t0\n";
        let told = parse(text);
        assert_eq!(told, Told { groups: vec![4, 24, 1000], effective: CAP_SYSLOG });
        assert_eq!(parse("garbage"), Told::default());
        assert_eq!(parse("CapEff: x\nGroups:\n"), Told::default());
    }

    #[test]
    fn the_kernel_tells_it_in_this_form() {
        let text = fs::read_to_string("/proc/self/status").unwrap();
        assert!(text.contains("\nGroups:") && text.contains("\nCapEff:\t"), "{text}");
    }
}
