//! The codes of a record as names, and addresses as the hexadecimal that people write: how plan files have them.

use serde::{Deserialize, Deserializer, Serializer, de};

macro_rules! by_name {
    ($module:ident, $type:ty) => {
        pub(super) mod $module {
            use super::{Deserialize, Deserializer, Serializer, de};

            #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over like this")]
            pub(crate) fn serialize<S: Serializer>(code: &$type, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(code.name())
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                let name = String::deserialize(deserializer)?;
                let found = <$type>::ALL.iter().find(|code| code.name() == name);
                found.copied().ok_or_else(|| de::Error::custom(format!("unknown name `{name}`")))
            }
        }
    };
}

by_name!(kind, lazymmu_abi::Kind);
by_name!(op, lazymmu_abi::Op);

pub(super) mod level {
    use lazymmu_abi::Level;

    use super::{Deserialize, Deserializer, Serializer, de};

    #[allow(clippy::ref_option, clippy::trivially_copy_pass_by_ref, reason = "serde hands it over like this")]
    pub(crate) fn serialize<S: Serializer>(level: &Option<Level>, serializer: S) -> Result<S::Ok, S::Error> {
        match level {
            Some(level) => serializer.serialize_str(level.name()),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Level>, D::Error> {
        let Some(name) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        let found = Level::ALL.iter().find(|level| level.name() == name);
        found.map(|level| Some(*level)).ok_or_else(|| de::Error::custom(format!("unknown level `{name}`")))
    }
}

pub(super) mod hex {
    use super::super::model::TextOffset;
    use super::{Deserialize, Deserializer, Serializer, de};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over like this")]
    pub(crate) fn serialize<S: Serializer>(offset: &TextOffset, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(offset)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TextOffset, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
        digits.map(TextOffset).ok_or_else(|| de::Error::custom(format!("`{text}` is no address like 0x1234")))
    }
}
