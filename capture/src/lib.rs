//! Loads the eBPF programs, drains their ring and accounts for losses.
