//! The canonical form of a request, which AWS makes of what it receives, and compares.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use http::{HeaderName, HeaderValue, header};
use zeroize::Zeroizing;

use super::Signing;
use crate::credentials::percent;

/// A request in its canonical form.
pub struct Canonical {
    /// It holds the session token, if there is one.
    pub text: Zeroizing<Vec<u8>>,
    /// The names of the signed headers: `host;x-amz-date`.
    pub signed: String,
}

/// Returns the canonical form of a request with the headers of `own` added and the hex SHA-256 of its body.
pub fn request(to: &Signing<'_>, own: &[(HeaderName, HeaderValue)], content: &str, s3: bool) -> Canonical {
    let headers = headers(to, own);
    let signed = headers.keys().copied().collect::<Vec<_>>().join(";");
    // S3 takes the path as it is on the wire. All others encode it once more.
    let path = if s3 { Zeroizing::new(to.path.into()) } else { percent::encode(to.path.as_bytes(), b"/") };
    let mut text = Zeroizing::new(Vec::new());
    for line in [to.method.as_str(), &path, &query(to.query.unwrap_or_default())] {
        text.extend_from_slice(line.as_bytes());
        text.push(b'\n');
    }
    for (name, value) in &headers {
        text.extend_from_slice(name.as_bytes());
        text.push(b':');
        text.extend_from_slice(value);
        text.push(b'\n');
    }
    for part in ["\n", &signed, "\n", content] {
        text.extend_from_slice(part.as_bytes());
    }
    Canonical { text, signed }
}

/// Returns `YYYYMMDDThhmmssZ`. Times before 1970 are 1970.
pub fn time(now: SystemTime) -> String {
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).as_ref().map_or(0, Duration::as_secs);
    let (hours, minutes, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    // Days and years from the 1st of March of the year 0, so that a leap day is the last one of its year: 400 years
    // have 146,097 days, and months from March on have 153 days in 5.
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = 400 * era + year + carry;
    format!("{year:04}{month:02}{date:02}T{hours:02}{minutes:02}{second:02}Z")
}

/// What is signed: the host, the type, and what AWS gives a meaning. Other headers may change on the way.
fn headers<'a>(to: &'a Signing<'_>, own: &'a [(HeaderName, HeaderValue)]) -> BTreeMap<&'a str, Vec<u8>> {
    let meant = |name: &HeaderName| name == header::CONTENT_TYPE || name.as_str().starts_with("x-amz-");
    let asked = to.headers.iter().filter(|(name, _)| meant(name) && own.iter().all(|(other, _)| other != *name));
    let own = own.iter().map(|(name, value)| (name, value));
    let mut headers = BTreeMap::from([("host", to.authority().into_bytes())]);
    for (name, value) in asked.chain(own) {
        let value = value.as_bytes().split(|byte| b" \t".contains(byte)).filter(|word| !word.is_empty());
        let value = value.collect::<Vec<_>>().join(&b' ');
        let all = headers.entry(name.as_str()).or_default();
        if !all.is_empty() {
            all.push(b',');
        }
        all.extend(value);
    }
    headers
}

/// Names and values, decoded and encoded in one way, in order.
fn query(query: &str) -> String {
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let [name, value] = [name, value].map(|part| percent::encode(&percent::decode(part), b"").to_string());
        (name, value)
    });
    let mut pairs: Vec<_> = pairs.collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}
