//! Where a file lands on the NAS.

use std::path::PathBuf;

/// `YYYY/MM/DD/<name>`: the date is that of a name `YYYYMMDD_HHMMSS_…`, else today's (UTC).
///
/// # Errors
/// A name that is no plain file name would land elsewhere; it comes from a table others write to.
pub(crate) fn remote_path(name: &str) -> Result<PathBuf, String> {
    let plain = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']);
    if !plain {
        return Err(format!("`{name}` is no plain file name"));
    }
    let date = date_of(name).unwrap_or_else(|| jiff::Timestamp::now().strftime("%Y/%m/%d").to_string());
    Ok(PathBuf::from(date).join(name))
}

fn date_of(name: &str) -> Option<String> {
    let (date, rest) = name.split_once('_')?;
    let (time, _) = rest.split_once('_')?;
    let digits = |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(date, 8) || !digits(time, 6) {
        return None;
    }
    let (year, month, day) = (&date[..4], &date[4..6], &date[6..]);
    jiff::civil::Date::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?).ok()?;
    Some(format!("{year}/{month}/{day}"))
}

#[cfg(test)]
mod tests {
    use super::{date_of, remote_path};

    #[test]
    fn the_date_comes_from_the_name() {
        let path = remote_path("20250123_101500_smoketest_42.txt").expect("plain");
        assert_eq!(path.to_str(), Some("2025/01/23/20250123_101500_smoketest_42.txt"));
    }

    #[test]
    fn a_name_without_a_real_date_lands_under_today() {
        for name in ["DJI_0001.MP4", "20250123_1015_x.txt", "20251341_101500_x.txt", "20250123.txt", "é_é_é"]
        {
            assert_eq!(date_of(name), None, "{name}");
            let path = remote_path(name).expect("plain");
            assert_eq!(path.components().count(), 4, "{name}");
        }
    }

    #[test]
    fn a_name_that_leaves_the_folder_is_refused() {
        for name in ["", ".", "..", "../x", "a/b", "/etc/passwd", "a\0b"] {
            assert!(remote_path(name).is_err(), "{name:?}");
        }
    }
}
