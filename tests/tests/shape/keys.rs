//! Which configuration keys a type reads, seen while serde reads an example into it.
//!
//! Serde tells a deserializer the fields of each struct that it asks for. This one compares them with the keys that the example
//! holds at that place, so a key that was added to a type and not to its example is found by name.

use std::collections::{BTreeMap, BTreeSet};

use serde::{
    Deserialize,
    de::{self, IntoDeserializer as _, MapAccess, SeqAccess, Visitor, value::Error},
    forward_to_deserialize_any,
};
use toml::Value;

/// Per place (arrays count as one place): the keys the type knows, and those that the example holds.
#[derive(Debug, Default)]
pub struct Seen {
    places: BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)>,
}

/// The keys that `T` knows and `example` does not hold.
pub fn missing<'de, T: Deserialize<'de>>(example: &str) -> Result<Vec<String>, Error> {
    let table: toml::Table = example.parse().map_err(de::Error::custom)?;
    let mut seen = Seen::default();
    T::deserialize(Reader { value: Value::Table(table), place: String::new(), seen: &mut seen })?;
    let missing = seen.places.iter().flat_map(|(place, (known, held))| {
        known.difference(held).map(move |key| if place.is_empty() { key.clone() } else { format!("{place}.{key}") })
    });
    Ok(missing.collect())
}

struct Reader<'s> {
    value: Value,
    place: String,
    seen: &'s mut Seen,
}

struct Entries<'s> {
    entries: std::vec::IntoIter<(String, Value)>,
    next: Option<(String, Value)>,
    place: String,
    seen: &'s mut Seen,
}

struct Items<'s> {
    items: std::vec::IntoIter<Value>,
    place: String,
    seen: &'s mut Seen,
}

impl<'de> de::Deserializer<'de> for Reader<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::String(text) => visitor.visit_string(text),
            Value::Integer(number) => visitor.visit_i64(number),
            Value::Float(number) => visitor.visit_f64(number),
            Value::Boolean(flag) => visitor.visit_bool(flag),
            Value::Datetime(moment) => visitor.visit_string(moment.to_string()),
            Value::Array(items) => visitor.visit_seq(Items {
                items: items.into_iter(),
                place: format!("{}[]", self.place),
                seen: self.seen,
            }),
            Value::Table(table) => {
                let entries = table.into_iter().collect::<Vec<_>>().into_iter();
                visitor.visit_map(Entries { entries, next: None, place: self.place, seen: self.seen })
            }
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if let Value::Table(table) = &self.value {
            let (known, held) = self.seen.places.entry(self.place.clone()).or_default();
            known.extend(fields.iter().map(|&field| field.to_owned()));
            held.extend(table.keys().cloned());
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.value {
            Value::String(text) => visitor.visit_enum(text.into_deserializer()),
            // A variant with content: its keys are looked at through serde's own reader.
            other => de::Deserializer::deserialize_enum(other, name, variants, visitor).map_err(de::Error::custom),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.next = self.entries.next();
        self.next.as_ref().map(|(key, _)| seed.deserialize(key.clone().into_deserializer())).transpose()
    }

    fn next_value_seed<V: de::DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (key, value) = self.next.take().expect("serde asks for the key first");
        let place = if self.place.is_empty() { key } else { format!("{}.{key}", self.place) };
        seed.deserialize(Reader { value, place, seen: self.seen })
    }
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Error;

    fn next_element_seed<T: de::DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(value) = self.items.next() else { return Ok(None) };
        seed.deserialize(Reader { value, place: self.place.clone(), seen: self.seen }).map(Some)
    }
}
