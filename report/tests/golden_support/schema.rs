//! A validator for the part of JSON Schema that the schemas in docs/ use. What it does not know it refuses, so
//! that no rule of the schema goes unheeded.

use serde_json::Value;

pub(crate) struct Schema(Value);

pub(crate) fn load() -> Schema {
    of("findings.schema.json")
}

/// A schema in docs/.
pub(crate) fn of(name: &str) -> Schema {
    let path = format!("{}/../docs/{name}", env!("CARGO_MANIFEST_DIR"));
    Schema(serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
}

impl Schema {
    /// What is wrong with a document, each with its place.
    pub(crate) fn errors(&self, document: &Value) -> Vec<String> {
        let mut errors = Vec::new();
        self.check(&self.0, document, "", &mut errors);
        errors
    }

    fn check(&self, schema: &Value, value: &Value, place: &str, errors: &mut Vec<String>) {
        for (keyword, rule) in schema.as_object().expect("a schema is an object") {
            let good = match keyword.as_str() {
                "$schema" | "$id" | "$defs" | "title" | "description" => true,
                "$ref" => {
                    let target =
                        rule.as_str().unwrap().strip_prefix('#').expect("references stay in the file");
                    self.check(self.0.pointer(target).expect("the reference exists"), value, place, errors);
                    true
                }
                "type" => match rule {
                    Value::Array(types) => types.iter().any(|one| is_of(value, one)),
                    one => is_of(value, one),
                },
                "const" => value == rule,
                "enum" => rule.as_array().unwrap().contains(value),
                "minimum" => value.as_u64().is_none_or(|number| number >= rule.as_u64().unwrap()),
                "pattern" => value.as_str().is_none_or(|text| matches(rule.as_str().unwrap(), text)),
                "required" => value.as_object().is_none_or(|object| {
                    rule.as_array().unwrap().iter().all(|name| object.contains_key(name.as_str().unwrap()))
                }),
                "properties" => {
                    for (name, inner) in rule.as_object().unwrap() {
                        if let Some(value) = value.get(name) {
                            self.check(inner, value, &format!("{place}/{name}"), errors);
                        }
                    }
                    true
                }
                "additionalProperties" => {
                    let known = schema.get("properties").and_then(Value::as_object);
                    let unknown = value.as_object().into_iter().flatten();
                    let unknown =
                        unknown.filter(|(name, _)| known.is_none_or(|known| !known.contains_key(*name)));
                    match rule {
                        Value::Bool(allowed) => *allowed || unknown.count() == 0,
                        inner => {
                            for (name, value) in unknown {
                                self.check(inner, value, &format!("{place}/{name}"), errors);
                            }
                            true
                        }
                    }
                }
                "items" => {
                    for (number, value) in value.as_array().into_iter().flatten().enumerate() {
                        self.check(rule, value, &format!("{place}/{number}"), errors);
                    }
                    true
                }
                unknown => panic!("the validator of the tests does not know {unknown}"),
            };
            if !good {
                errors.push(format!("{place}: {keyword} {rule} does not hold for {value}"));
            }
        }
    }
}

fn is_of(value: &Value, name: &Value) -> bool {
    match name.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "null" => value.is_null(),
        unknown => panic!("the validator of the tests does not know the type {unknown}"),
    }
}

/// The two patterns that the schema has.
fn matches(pattern: &str, text: &str) -> bool {
    let hex = |digits: &str, count| {
        digits.len() == count && digits.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
    };
    match pattern {
        "^0x[0-9a-f]{16}$" => text.strip_prefix("0x").is_some_and(|digits| hex(digits, 16)),
        "^[0-9a-f]{16}$" => hex(text, 16),
        unknown => panic!("the validator of the tests does not know the pattern {unknown}"),
    }
}
