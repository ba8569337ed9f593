//! Reads JSON as a [`Value`], without the leniencies of the reader that `serde_json` derives.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{
    canonical::{BadJson, DEPTH_MAX, INTEGER_MAX},
    place::{self, Place},
};

/// Parses a text that has one reading only.
pub(super) fn parse(text: &str) -> Result<Value, BadJson> {
    let mut reader = Reader::default();
    let mut json = serde_json::Deserializer::from_str(text);
    let read = reader.deserialize(&mut json).and_then(|value| json.end().map(|()| value));
    read.map_err(|error| {
        let at = Place::new(&reader.pointer);
        match reader.refusal {
            Some(Refusal::DuplicateKey) => BadJson::DuplicateKey { at },
            Some(Refusal::TooDeep) => BadJson::TooDeep { at },
            Some(Refusal::BigNumber) => BadJson::BigNumber { at },
            None => BadJson::Syntax { at, why: error.to_string() },
        }
    })
}

#[derive(Default)]
struct Reader {
    depth: usize,
    /// Where the reader is. It stays where an error was met.
    pointer: String,
    refusal: Option<Refusal>,
}

enum Refusal {
    DuplicateKey,
    TooDeep,
    BigNumber,
}

impl Reader {
    fn refuse<E: Error>(&mut self, refusal: Refusal) -> E {
        self.refusal = Some(refusal);
        E::custom("refused")
    }

    fn enter<E: Error>(&mut self) -> Result<(), E> {
        if self.depth == DEPTH_MAX {
            return Err(self.refuse(Refusal::TooDeep));
        }
        self.depth += 1;
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for &mut Reader {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        if value.unsigned_abs() > INTEGER_MAX {
            return Err(self.refuse(Refusal::BigNumber));
        }
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        if value > INTEGER_MAX {
            return Err(self.refuse(Refusal::BigNumber));
        }
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        if value.abs() > INTEGER_MAX as f64 {
            return Err(self.refuse(Refusal::BigNumber));
        }
        if value.fract() == 0.0 {
            // Canonical bytes write 1.0 as 1 and -0 as 0, which is then read as an integer.
            return Ok((value as i64).into());
        }
        Number::from_f64(value).map(Value::Number).ok_or_else(|| self.refuse(Refusal::BigNumber))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.enter()?;
        let here = self.pointer.len();
        let mut list = Vec::new();
        loop {
            place::push(&mut self.pointer, &list.len().to_string());
            let Some(item) = items.next_element_seed(&mut *self)? else { break };
            list.push(item);
            self.pointer.truncate(here);
        }
        self.pointer.truncate(here);
        self.depth -= 1;
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        self.enter()?;
        let here = self.pointer.len();
        let mut object = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            place::push(&mut self.pointer, &key);
            if object.contains_key(&key) {
                return Err(self.refuse(Refusal::DuplicateKey));
            }
            let value = members.next_value_seed(&mut *self)?;
            object.insert(key, value);
            self.pointer.truncate(here);
        }
        self.depth -= 1;
        Ok(Value::Object(object))
    }
}
