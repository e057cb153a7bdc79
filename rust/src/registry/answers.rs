//! What stands in answers of registries: errors, pages, times. Pure: text of others in, values within limits out.

use serde_json::Value;
use std::time::Duration;
use ureq::http::HeaderMap;

/// Of an error's body.
pub const ERROR_MAX: u64 = 64 << 10;

/// A header that is there once and is text.
pub fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut all = headers.get_all(name).iter();
    let first = all.next()?.to_str().ok()?;
    all.next().is_none().then_some(first.trim())
}

/// (code, message) of the first error, as the distribution specification has them ("Error Codes").
pub fn error(body: &[u8]) -> Option<(String, String)> {
    let whole: Value = serde_json::from_slice(body).ok()?;
    let first = whole.get("errors")?.as_array()?.first()?;
    let part = |name: &str| first.get(name).and_then(Value::as_str).unwrap_or_default().to_string();
    let code = part("code");
    let is_code =
        (1..=64).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_code.then(|| (code, part("message")))
}

/// Retry-After: seconds, or a date. Something else is nothing.
pub fn retry_after(headers: &HeaderMap, now: u64) -> Option<Duration> {
    let said = text(headers, "retry-after")?;
    let seconds = match said.parse::<u64>() {
        Ok(seconds) => seconds,
        Err(_) => date(said)?.saturating_sub(now),
    };
    Some(Duration::from_secs(seconds.min(u64::from(u32::MAX))))
}

/// RFC 9110's IMF-fixdate ("Sun, 06 Nov 1994 08:49:37 GMT") as seconds since 1970.
fn date(text: &str) -> Option<u64> {
    let parts: Vec<&str> = text.split(' ').collect();
    let [_, day, month, year, time, "GMT"] = parts[..] else { return None };
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let number = |text: &str, most: u64| text.parse::<u64>().ok().filter(|number| *number <= most);
    let (day, year) = (number(day, 31)?, number(year, 9999)?);
    let clock: Vec<u64> = time.split(':').map(|part| number(part, 60)).collect::<Option<_>>()?;
    let [hours, minutes, seconds] = clock[..] else { return None };
    // Howard Hinnant's days_from_civil, for years from 1970.
    let shifted = if month <= 2 { year.checked_sub(1)? } else { year };
    let days = 365 * shifted + shifted / 4 - shifted / 100
        + shifted / 400
        + (153 * ((month + 9) % 12) + 2) / 5
        + day.checked_sub(1)?;
    Some(days.checked_sub(719_468)? * 86_400 + hours * 3600 + minutes * 60 + seconds)
}

/// The target of `<...>; rel="next"` (RFC 8288), of one header.
pub fn next_page(headers: &HeaderMap) -> Option<String> {
    let mut rest = text(headers, "link")?;
    loop {
        let inner = rest.trim_start().strip_prefix('<')?;
        let (target, after) = inner.split_once('>')?;
        // A comma in a quoted value would be read wrongly: no registry writes one.
        let (parameters, others) = after.split_once(',').unwrap_or((after, ""));
        let is_next = parameters.split(';').any(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or_default();
            name.trim().eq_ignore_ascii_case("rel") && value.trim().trim_matches('"').eq_ignore_ascii_case("next")
        });
        if is_next {
            return Some(target.to_string());
        }
        if others.is_empty() {
            return None;
        }
        rest = others;
    }
}

/// Of `bytes FIRST-LAST/TOTAL`.
pub fn content_range(headers: &HeaderMap) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = text(headers, "content-range")?.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    (first <= last && total.is_none_or(|total| last < total)).then_some((first, last, total))
}

/// Without parameters; "" where it says nothing about a manifest.
pub fn media_type(headers: &HeaderMap) -> String {
    let kind = text(headers, "content-type")
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    if matches!(kind.as_str(), "application/json" | "text/plain" | "application/octet-stream") {
        String::new()
    } else {
        kind
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ureq::http::HeaderValue;

    fn one(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        headers
    }

    #[test]
    fn times_to_wait_are_seconds_or_dates() {
        let after = |value: &str| retry_after(&one("retry-after", value), 784_111_777).map(|time| time.as_secs());
        assert_eq!(after("3"), Some(3));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:47 GMT"), Some(10));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:07 GMT"), Some(0));
        for bad in [
            "",
            "-1",
            "soon",
            "1.5",
            "Sun, 06 Nov 1994",
            "Sun, 0 Nov 1994 08:49:07 GMT",
            "Sun, 06 Nov 0001 00:00:00 GMT",
        ] {
            assert_eq!(after(bad), None, "{bad}");
        }
        assert_eq!(date("Thu, 29 Feb 2024 12:00:00 GMT"), Some(1_709_208_000));
    }

    #[test]
    fn pages_follow_links() {
        let next = |value: &str| next_page(&one("link", value));
        assert_eq!(next("</v2/_catalog?last=b&n=2>; rel=\"next\"").unwrap(), "/v2/_catalog?last=b&n=2");
        assert_eq!(next("<a>; rel=prev, <b>; rel=next").unwrap(), "b");
        for bad in ["", "<a>", "a; rel=next", "<a; rel=next", "<a>; rel=prev"] {
            assert_eq!(next(bad), None, "{bad}");
        }
    }

    #[test]
    fn ranges_are_what_they_say() {
        let range = |value: &str| content_range(&one("content-range", value));
        assert_eq!(range("bytes 5-9/10"), Some((5, 9, Some(10))));
        assert_eq!(range("bytes 5-9/*"), Some((5, 9, None)));
        for bad in ["", "5-9/10", "bytes 9-5/10", "bytes 5-10/10", "bytes */10", "bytes 5-9", "items 5-9/10"] {
            assert_eq!(range(bad), None, "{bad}");
        }
    }

    #[test]
    fn errors_have_a_code() {
        let (code, message) = error(br#"{"errors":[{"code":"DENIED","message":"no"}]}"#).unwrap();
        assert_eq!((code.as_str(), message.as_str()), ("DENIED", "no"));
        for bad in
            ["", "{}", "[]", "{\"errors\":[]}", "{\"errors\":[{\"code\":\"a b\"}]}", "{\"errors\":[{\"code\":7}]}"]
        {
            assert_eq!(error(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_comes_is_a_panic(value in "[ -~]{0,60}|[A-Z][a-z]{2}, [0-9]{1,2} [A-Z][a-z]{2} [0-9]{1,5} [0-9:]{0,9} GMT") {
            let headers = one("link", &value);
            let _ = (next_page(&headers), retry_after(&one("retry-after", &value), 0), content_range(&one("content-range", &value)));
            let _ = error(value.as_bytes());
        }
    }
}
