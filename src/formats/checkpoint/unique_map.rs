//! A JSON object whose keys keep their order and are unique.

use std::fmt;
use std::marker::PhantomData;

use indexmap::IndexMap;
use indexmap::map::Entry;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

/// Deserialises an object; a repeated key is an error.
#[derive(Debug)]
pub struct UniqueMap<V>(pub IndexMap<String, V>);

impl<V> Default for UniqueMap<V> {
    fn default() -> Self {
        UniqueMap(IndexMap::new())
    }
}

struct Pairs<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for Pairs<V> {
    type Value = UniqueMap<V>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueMap<V>, A::Error> {
        let mut all = IndexMap::new();
        while let Some(key) = map.next_key::<String>()? {
            match all.entry(key) {
                Entry::Occupied(e) => {
                    return Err(de::Error::custom(format!("the key {:?} appears twice", e.key())));
                }
                Entry::Vacant(e) => {
                    e.insert(map.next_value()?);
                }
            }
        }
        Ok(UniqueMap(all))
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for UniqueMap<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<UniqueMap<V>, D::Error> {
        deserializer.deserialize_map(Pairs(PhantomData))
    }
}
