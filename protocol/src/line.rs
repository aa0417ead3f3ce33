//! Lines: one object with one field that is known. Fields of later versions beside it, and inside, are left alone.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::Error;

/// No line that a daemon takes is longer. What it sends may be.
pub const MAX_LINE: usize = 64 * 1024;

/// The object of a line.
pub(crate) fn object(line: &str) -> Result<Map<String, Value>, Error> {
    match serde_json::from_str(line.trim()) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Error::Line("it is no JSON object".to_owned())),
        Err(error) => Err(Error::Line(error.to_string())),
    }
}

/// What stands in the field of that name.
pub(crate) fn body<T: DeserializeOwned>(name: &str, value: Value) -> Result<T, Error> {
    serde_json::from_value(value).map_err(|error| Error::Line(format!("{name}: {error}")))
}

/// With its end of line.
pub(crate) fn line(value: &impl Serialize) -> String {
    // Serializing to memory fails only for maps whose keys are no strings, and no message has such.
    let mut line = serde_json::to_string(value).unwrap_or_default();
    line.push('\n');
    line
}
