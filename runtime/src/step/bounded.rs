//! Lists that come from a worker, as long as they can be and no longer: an empty entry is a byte on the wire and fifty in
//! memory.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor},
};

use super::{FIELD_BYTES, FIXED};

/// Fields of one event: each counts [`FIELD_BYTES`] of its bytes.
const EVENT_FIELDS_MAX: usize = FIXED.event_bytes as usize / FIELD_BYTES;

/// Headers, or trailers, of one HTTP message, which count as much.
const HEADERS_MAX: usize = FIXED.header_fields_bytes as usize / FIELD_BYTES;

// A request's head has no room for more of them.
const _: () = assert!(FIXED.request_head_bytes <= FIXED.header_fields_bytes);

/// Reads the fields of an event.
pub fn event_fields<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    from.deserialize_seq(AtMost::<T>(EVENT_FIELDS_MAX, PhantomData))
}

/// Reads headers.
pub fn headers<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    from.deserialize_seq(AtMost::<T>(HEADERS_MAX, PhantomData))
}

struct AtMost<T>(usize, PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for AtMost<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {} entries", self.0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(entry) = from.next_element()? {
            if list.len() == self.0 {
                return Err(A::Error::custom(format_args!("more than {} entries", self.0)));
            }
            list.push(entry);
        }
        Ok(list)
    }
}
