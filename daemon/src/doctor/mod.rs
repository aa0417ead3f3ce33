//! What `lazymmu doctor` finds out and says. It reads, and changes nothing; it needs no privilege, and says what it could
//! not read for the want of one.

pub(crate) mod facts;
mod json;
#[cfg(test)]
mod tests;
mod text;
pub(crate) mod verdict;

pub(crate) use json::document;
pub(crate) use text::table;
