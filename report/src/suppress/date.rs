//! A day of the calendar.

use std::fmt;
use std::str::FromStr;

/// A day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    year: i64,
    month: u8,
    day: u8,
}

impl Date {
    /// The day with that date, if there is one.
    #[must_use]
    pub fn new(year: i64, month: u8, day: u8) -> Option<Self> {
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days = match month {
            4 | 6 | 9 | 11 => 30,
            2 if leap => 29,
            2 => 28,
            1..=12 => 31,
            _ => return None,
        };
        (1..=days).contains(&day).then_some(Self { year, month, day })
    }

    /// The day that is so many days after 1970-01-01, by the algorithm `civil_from_days` of Howard Hinnant,
    /// "chrono-Compatible Low-Level Date Algorithms".
    #[must_use]
    pub fn from_days_since_1970(days: u32) -> Self {
        // Days since 0000-03-01: years then end with the leap day.
        let days = i64::from(days) + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let year = year + era * 400 + i64::from(month <= 2);
        // Both are small by the arithmetic above.
        Self { year, month: u8::try_from(month).unwrap_or(1), day: u8::try_from(day).unwrap_or(1) }
    }
}

impl FromStr for Date {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split('-');
        let mut part = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits)?;
            part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse::<u16>().ok())?
        };
        let date = (part(4), part(2), part(2));
        let (Some(year), Some(month), Some(day), None) = (date.0, date.1, date.2, parts.next()) else {
            return Err("not a date such as 2027-01-31".to_owned());
        };
        let date = Self::new(i64::from(year), month as u8, day as u8);
        date.ok_or_else(|| format!("there is no {text} in the calendar"))
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

#[cfg(test)]
mod tests {
    use super::Date;

    #[test]
    fn days_since_1970() {
        for (days, date) in [
            (0, "1970-01-01"),
            (58, "1970-02-28"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (20_777, "2026-11-20"),
            (47_541, "2100-03-01"),
        ] {
            assert_eq!(Date::from_days_since_1970(days).to_string(), date);
            assert_eq!(date.parse(), Ok(Date::from_days_since_1970(days)));
        }
    }

    #[test]
    fn what_is_no_date() {
        for bad in ["", "2027", "2027-1-1", "2027-01-01x", "2027-01-01-01", "20270101", "+027-01-01"] {
            assert_eq!(bad.parse::<Date>(), Err("not a date such as 2027-01-31".to_owned()), "{bad}");
        }
        for bad in ["2027-02-29", "2100-02-29", "2027-13-01", "2027-04-31", "2027-00-01", "2027-01-00"] {
            assert_eq!(bad.parse::<Date>(), Err(format!("there is no {bad} in the calendar")));
        }
    }
}
