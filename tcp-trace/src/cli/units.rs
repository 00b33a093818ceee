//! Durations and sizes as people write them.

use std::time::Duration;

use tcp_trace_core::tracker::MOST_CONNECTIONS;

/// `5s`, `300ms`, `1m 30s`, `1d`; a bare number is seconds, as in the bcc tools.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = |why: &str| format!("{why}; give a duration such as 500ms, 5s or 2m");
    if let Ok(seconds) = text.trim().parse::<f64>() {
        let duration = Duration::try_from_secs_f64(seconds).map_err(|error| wrong(&error.to_string()))?;
        return nonzero(duration).ok_or_else(|| wrong("it must be more than 0"));
    }
    // Days are no fixed length to jiff, which has calendars in mind.
    if let Some(days) = text.trim().strip_suffix('d').and_then(|days| days.trim().parse::<u32>().ok()) {
        return nonzero(Duration::from_secs(u64::from(days) * 86_400))
            .ok_or_else(|| wrong("it must be more than 0"));
    }
    let signed: jiff::SignedDuration =
        text.parse().map_err(|error: jiff::Error| wrong(&error.to_string()))?;
    let duration = Duration::try_from(signed).map_err(|_negative| wrong("it is negative"))?;
    nonzero(duration).ok_or_else(|| wrong("it must be more than 0"))
}

fn nonzero(duration: Duration) -> Option<Duration> {
    (!duration.is_zero()).then_some(duration)
}

/// `16MiB`, `4M`, `512k`, `65536`: a number of bytes.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => return Err(format!("`{unit}` is no unit; give a size such as 512k or 16M")),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| format!("`{text}` is no size; give one such as 512k or 16M"))
}

/// A power of two between a page and 1 GiB, for a ring buffer.
pub(crate) fn buffer(text: &str) -> Result<u32, String> {
    let bytes = size(text)?;
    if !bytes.is_power_of_two() || !(4096..=1 << 30).contains(&bytes) {
        return Err("the size must be a power of two between 4k and 1G".to_owned());
    }
    u32::try_from(bytes).map_err(|error| error.to_string())
}

/// A number of connections that fits the table.
pub(super) fn connections(text: &str) -> Result<usize, String> {
    let wrong = || format!("`{text}` is no number between 1 and {MOST_CONNECTIONS}");
    let number = text.trim().parse().map_err(|_no_number| wrong())?;
    if (1..=MOST_CONNECTIONS).contains(&number) { Ok(number) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_room_for_one_connection_at_least() {
        assert_eq!(connections("10000000"), Ok(10_000_000));
        assert!(connections("0").unwrap_err().contains("between 1"));
        assert!(connections("2M").unwrap_err().contains("no number"));
        assert!(connections("99999999999").unwrap_err().contains("no number between"));
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("300ms"), Ok(Duration::from_millis(300)));
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1d"), Ok(Duration::from_secs(86_400)));
        assert!(duration("0d").unwrap_err().contains("more than 0"));
        assert_eq!(duration("2"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("0.5"), Ok(Duration::from_millis(500)));
        assert!(duration("0s").unwrap_err().contains("more than 0"));
        assert!(duration("-1s").unwrap_err().contains("negative"));
        assert!(duration("soon").unwrap_err().contains("such as 500ms"));
    }

    #[test]
    fn buffers_are_powers_of_two() {
        assert_eq!(buffer("16MiB"), Ok(16 << 20));
        assert_eq!(buffer("512k"), Ok(512 << 10));
        assert_eq!(buffer("65536"), Ok(65536));
        assert!(buffer("3M").unwrap_err().contains("power of two"));
        assert!(buffer("1T").unwrap_err().contains("no unit"));
        assert!(buffer("99999999999999999999").unwrap_err().contains("no size"));
    }
}
