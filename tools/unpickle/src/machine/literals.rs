//! Numbers, text and bytes as the opcodes spell them.

use crate::cursor::Cursor;
use crate::{Fault, Value};

/// What an opcode of a number, a truth value or `None` stands for.
pub(super) fn number(cursor: &mut Cursor, opcode: u8) -> Result<Value, Fault> {
    Ok(match opcode {
        b'N' => Value::None,
        0x88 => Value::Bool(true),
        0x89 => Value::Bool(false),
        b'J' => Value::Int(i64::from(i32::from_le_bytes(cursor.array()?))),
        b'K' => Value::Int(i64::from(cursor.u8()?)),
        b'M' => Value::Int(i64::from(u16::from_le_bytes(cursor.array()?))),
        b'G' => Value::Float(f64::from_be_bytes(cursor.array()?)),
        b'F' => Value::Float(
            cursor
                .line_str()?
                .trim()
                .parse()
                .map_err(|_| Fault::Malformed("a float that is none"))?,
        ),
        b'I' => match cursor.line_str()? {
            "00" => Value::Bool(false),
            "01" => Value::Bool(true),
            digits => decimal(digits)?,
        },
        b'L' => decimal(cursor.line_str()?.trim_end_matches('L'))?,
        long => {
            let length =
                if long == 0x8a { u64::from(cursor.u8()?) } else { u64::from(cursor.u32()?) };
            integer(cursor.take(length)?)
        }
    })
}

/// What an opcode of text or bytes stands for.
pub(super) fn text(cursor: &mut Cursor, opcode: u8) -> Result<Value, Fault> {
    if opcode == b'S' {
        return quoted(cursor.line()?);
    }
    if opcode == b'V' {
        return Ok(Value::Str(cursor.line_str()?.into()));
    }
    let length = match opcode {
        b'U' | b'C' | 0x8c => u64::from(cursor.u8()?),
        b'T' | b'X' | b'B' => u64::from(cursor.u32()?),
        _ => cursor.u64()?,
    };
    let bytes = cursor.take(length)?;
    Ok(match opcode {
        b'X' | 0x8c | 0x8d => Value::Str(
            std::str::from_utf8(bytes)
                .map_err(|_| Fault::Malformed("text that is not UTF-8"))?
                .into(),
        ),
        // Python 2's str is bytes; where it is ASCII, and so also text, `as_str` gives it as text.
        _ => Value::Bytes(bytes.into()),
    })
}

fn decimal(digits: &str) -> Result<Value, Fault> {
    digits.trim().parse().map(Value::Int).map_err(|_| Fault::Malformed("an integer that is none"))
}

/// A little-endian two's complement integer of any length.
fn integer(bytes: &[u8]) -> Value {
    if bytes.len() > 8 {
        return Value::BigInt(bytes.into());
    }
    let negative = bytes.last().is_some_and(|&b| b & 0x80 != 0);
    let mut extended = [if negative { 0xff } else { 0 }; 8];
    extended[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(extended))
}

/// Protocol 0's `S'...'`: quoted, without the escapes that no file of ours holds.
fn quoted(line: &[u8]) -> Result<Value, Fault> {
    match line {
        [b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => {
            Ok(Value::Bytes(inner.into()))
        }
        _ => Err(Fault::Malformed("a string that is not quoted, or has escapes")),
    }
}
