//! Words of documents.

use std::borrow::Cow;

/// A word of a document: one of ours where it was written here, whatever stands there where it was read, which may be a
/// word of a later version.
pub type Word = Cow<'static, str>;
