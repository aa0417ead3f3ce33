//! Call stacks with names.

use lazymmu_hazard::{StackId, StackNames};
use lazymmu_trace::{Frame, Symbols};
use serde::{Deserialize, Serialize};

use crate::cases::one_line;

/// One function of a call stack.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct StackFrame {
    /// The function's name; the address in hexadecimal if it has none.
    pub function: String,
    /// Bytes from the start of the function that holds the text; 0 for an inlined one.
    pub offset: u64,
    /// The module, if it is in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// Source file, relative to the kernel's tree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Line in that file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Whether the compiler inlined it into the next.
    pub inlined: bool,
}

impl From<&Frame> for StackFrame {
    fn from(frame: &Frame) -> Self {
        // They come from the kernel or from who wrote the trace, and shall not steer a terminal.
        let plain = |text: &Option<String>| text.as_deref().map(one_line);
        Self {
            function: one_line(&frame.function),
            offset: frame.offset,
            module: plain(&frame.module),
            file: plain(&frame.file),
            line: frame.line,
            inlined: frame.inlined,
        }
    }
}

/// Every function of a stack, innermost first; empty if the stack is not known.
pub(crate) fn frames(symbols: &Symbols, stack: StackId) -> Vec<StackFrame> {
    let addresses = symbols.addresses(stack.0).unwrap_or(&[]);
    addresses.iter().flat_map(|address| at(symbols, *address)).collect()
}

fn at(symbols: &Symbols, address: u64) -> Vec<StackFrame> {
    match symbols.frames_at(address) {
        // Some unwinders put a 0 where they could not go on.
        [] if address == 0 => Vec::new(),
        [] => vec![StackFrame {
            function: format!("{address:#x}"),
            offset: 0,
            module: None,
            file: None,
            line: None,
            inlined: false,
        }],
        frames => frames.iter().map(StackFrame::from).collect(),
    }
}

/// The names that group findings.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a>(
    /// Where they come from.
    pub &'a Symbols,
);

impl StackNames for Names<'_> {
    fn innermost(&self, stack: StackId) -> Option<String> {
        let addresses = self.0.addresses(stack.0)?;
        addresses
            .iter()
            .find_map(|address| at(self.0, *address).into_iter().next())
            .map(|frame| frame.function)
    }
}
