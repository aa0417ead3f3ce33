//! The definitions of the command line, and the values that it takes.

use super::*;
use clap::CommandFactory;

#[test]
fn the_definitions_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn sizes() {
    assert_eq!(parse_size("4096"), Ok(4096));
    assert_eq!(parse_size("64K"), Ok(65536));
    assert_eq!(parse_size("32M"), Ok(32 << 20));
    for bad in ["", "K", "5000", "2048", "-4K", "8G", "4096x"] {
        assert!(parse_size(bad).is_err(), "{bad}");
    }
}

#[test]
fn seconds() {
    assert_eq!(parse_seconds("1.5"), Ok(Duration::from_millis(1500)));
    for bad in ["", "x", "-1", "nan", "inf"] {
        assert!(parse_seconds(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_command_keeps_its_own_options() {
    let cli = Cli::try_parse_from(["lazymmu", "live", "--", "workload", "run", "--help"]).unwrap();
    let Command::Live(live) = cli.command else { panic!("not live") };
    assert_eq!(live.capture.command, ["workload", "run", "--help"]);
}
