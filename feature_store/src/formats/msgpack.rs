//! msgpack, looked through before it is read: a byte can stand for a value of forty, and a tree of them is made in memory.

use rmp::Marker;
use rmpv::ValueRef;

/// Deepest nesting; sound records have less than five.
const MAX_DEPTH: usize = 64;
/// Values in a record; sound ones have a few hundred.
const MAX_VALUES: usize = 1 << 16;

/// The one value in the bytes of a record.
///
/// # Errors
/// What is no msgpack, ends early, or holds more values than a record has.
pub(super) fn read(bytes: &[u8]) -> Result<ValueRef<'_>, String> {
    count(bytes)?;
    rmpv::decode::read_value_ref_with_max_depth(&mut &bytes[..], MAX_DEPTH)
        .map_err(|error| format!("it is no msgpack: {error}"))
}

/// Walks over the first value in the bytes.
fn count(mut bytes: &[u8]) -> Result<(), String> {
    // Values that are still to come.
    let (mut open, mut seen) = (1usize, 0usize);
    while open > 0 {
        let (inside, length) = head(&mut bytes).ok_or("it ends inside a value")?;
        bytes = bytes.get(length..).ok_or("it ends inside a value")?;
        seen += 1;
        open = (open - 1).saturating_add(inside);
        if seen.saturating_add(open) > MAX_VALUES {
            return Err(format!("it holds more than {MAX_VALUES} values"));
        }
    }
    Ok(())
}

/// Takes a value's marker and size; returns how many values are inside it, and how many bytes.
fn head(bytes: &mut &[u8]) -> Option<(usize, usize)> {
    let mut size = |width: usize| {
        let (number, rest) = bytes.split_at_checked(width)?;
        *bytes = rest;
        Some(number.iter().fold(0, |size, &byte| size << 8 | usize::from(byte)))
    };
    let marker = Marker::from_u8(size(1)? as u8);
    Some(match marker {
        Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => {
            (0, 0)
        }
        Marker::Reserved => (0, 0),
        Marker::U8 | Marker::I8 => (0, 1),
        Marker::U16 | Marker::I16 => (0, 2),
        Marker::U32 | Marker::I32 | Marker::F32 => (0, 4),
        Marker::U64 | Marker::I64 | Marker::F64 => (0, 8),
        Marker::FixStr(length) => (0, usize::from(length)),
        Marker::Str8 | Marker::Bin8 => (0, size(1)?),
        Marker::Str16 | Marker::Bin16 => (0, size(2)?),
        Marker::Str32 | Marker::Bin32 => (0, size(4)?),
        Marker::FixArray(length) => (usize::from(length), 0),
        Marker::Array16 => (size(2)?, 0),
        Marker::Array32 => (size(4)?, 0),
        Marker::FixMap(pairs) => (2 * usize::from(pairs), 0),
        Marker::Map16 => (2 * size(2)?, 0),
        Marker::Map32 => (2 * size(4)?, 0),
        // One byte says of what type they are.
        Marker::FixExt1 => (0, 2),
        Marker::FixExt2 => (0, 3),
        Marker::FixExt4 => (0, 5),
        Marker::FixExt8 => (0, 9),
        Marker::FixExt16 => (0, 17),
        Marker::Ext8 => (0, size(1)? + 1),
        Marker::Ext16 => (0, size(2)? + 1),
        Marker::Ext32 => (0, size(4)? + 1),
    })
}

#[cfg(test)]
mod tests {
    use rmpv::Value;

    use super::*;

    #[test]
    fn what_is_written_is_read_whatever_is_in_it() {
        let parts = vec![
            Value::Nil,
            Value::from(-5),
            Value::from(u64::MAX),
            Value::from(1.5f32),
            Value::from("a".repeat(70_000)),
            Value::Binary(vec![7; 300]),
            Value::Ext(3, vec![1; 16]),
            Value::Ext(3, vec![1; 20]),
            Value::Map(vec![(Value::from("k"), Value::Array(vec![Value::from(true); 20]))]),
            Value::Array(vec![Value::from(1); 70]),
        ];
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, &Value::Array(parts.clone())).unwrap();
        assert_eq!(read(&bytes).unwrap().to_owned(), Value::Array(parts));
        for end in 0..bytes.len().min(400) {
            assert!(read(&bytes[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn claims_and_crowds_are_refused_before_anything_is_made_of_them() {
        // An array that claims four billion values, one of many zeros, and maps in maps.
        let claim = [0xdd, 0xff, 0xff, 0xff, 0xff];
        let crowd = [&[0xdd, 0, 1, 0, 1][..], &vec![0; 1 << 17]].concat();
        for bytes in [&claim[..], &crowd] {
            assert!(read(bytes).unwrap_err().contains("more than"));
        }
        assert!(read(&[0x91; 1000]).is_err());
        assert!(read(&[]).is_err());
    }
}
