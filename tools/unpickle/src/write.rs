//! Writes values as a pickle that Python, NumPy and PyTorch read: protocol 2, or 4 where bytes need it.

use crate::{Fault, NdArray, Value};

/// The pickle of a value. Arrays name NumPy 1's modules, which NumPy 2 reads too; globals, calls and persistent ids are
/// written as such. Without bytes and arrays it is of protocol 2, the only one that `torch.load(weights_only=True)`
/// reads without a warning.
///
/// # Errors
/// [`Fault::Unwritable`] for integers beyond 64 bits, text beyond 4 GiB and names with line feeds.
pub fn write(value: &Value) -> Result<Vec<u8>, Fault> {
    let mut out = vec![0x80, 2];
    put(&mut out, value)?;
    out.push(b'.');
    Ok(out)
}

fn put(out: &mut Vec<u8>, value: &Value) -> Result<(), Fault> {
    match value {
        Value::None => out.push(b'N'),
        Value::Bool(true) => out.push(0x88),
        Value::Bool(false) => out.push(0x89),
        Value::Int(number) => put_int(out, *number),
        Value::Float(number) => {
            out.push(b'G');
            out.extend(number.to_be_bytes());
        }
        Value::Str(text) => put_text(out, text)?,
        Value::Bytes(bytes) => put_bytes(out, bytes),
        Value::List(items) => {
            out.extend(b"](");
            items.iter().try_for_each(|item| put(out, item))?;
            out.push(b'e');
        }
        Value::Tuple(items) => put_tuple(out, items)?,
        Value::Dict(pairs) => {
            out.extend(b"}(");
            for (key, value) in pairs {
                put(out, key)?;
                put(out, value)?;
            }
            out.push(b'u');
        }
        Value::Array(array) => put_array(out, array)?,
        Value::ObjectArray { shape, items } => put_object_array(out, shape, items)?,
        Value::Global { module, name } => put_global(out, module, name)?,
        Value::Call { callable, arguments } => {
            put(out, callable)?;
            put_tuple(out, arguments)?;
            out.push(b'R');
        }
        Value::Persistent(id) => {
            put(out, id)?;
            out.push(b'Q');
        }
        Value::Object { .. } => return Err(Fault::Unwritable("an object with a state")),
        Value::BigInt(_) => return Err(Fault::Unwritable("an integer beyond 64 bits")),
    }
    Ok(())
}

fn put_text(out: &mut Vec<u8>, text: &str) -> Result<(), Fault> {
    let length = u32::try_from(text.len()).map_err(|_| Fault::Unwritable("so long a text"))?;
    out.push(b'X');
    out.extend(length.to_le_bytes());
    out.extend(text.as_bytes());
    Ok(())
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    // The header's protocol: BINBYTES8 is of the fourth.
    out[1] = 4;
    out.push(0x8e);
    out.extend((bytes.len() as u64).to_le_bytes());
    out.extend(bytes);
}

fn put_tuple(out: &mut Vec<u8>, items: &[Value]) -> Result<(), Fault> {
    out.push(b'(');
    items.iter().try_for_each(|item| put(out, item))?;
    out.push(b't');
    Ok(())
}

fn put_global(out: &mut Vec<u8>, module: &str, name: &str) -> Result<(), Fault> {
    if module.contains('\n') || name.contains('\n') {
        return Err(Fault::Unwritable("a name with a line feed"));
    }
    out.extend(format!("c{module}\n{name}\n").into_bytes());
    Ok(())
}

fn put_int(out: &mut Vec<u8>, number: i64) {
    match i32::try_from(number) {
        Ok(small) => {
            out.push(b'J');
            out.extend(small.to_le_bytes());
        }
        Err(_) => {
            out.extend([0x8a, 8]);
            out.extend(number.to_le_bytes());
        }
    }
}

fn put_array(out: &mut Vec<u8>, array: &NdArray) -> Result<(), Fault> {
    let order = if array.dtype().size() == 1 { "|" } else { "<" };
    put_array_of(out, array.shape(), array.dtype().name(), order, |out| {
        put(out, &Value::Bytes(array.bytes().into()))
    })
}

fn put_object_array(out: &mut Vec<u8>, shape: &[usize], items: &[Value]) -> Result<(), Fault> {
    put_array_of(out, shape, "O8", "|", |out| put(out, &Value::List(items.to_vec())))
}

/// `numpy.core.multiarray._reconstruct(numpy.ndarray, (0,), b"b")` with the state of a C-ordered array.
fn put_array_of(
    out: &mut Vec<u8>,
    shape: &[usize],
    dtype: &str,
    order: &str,
    put_items: impl FnOnce(&mut Vec<u8>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    out.extend(b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\0tC\x01btR");
    out.extend(b"(K\x01(");
    for &size in shape {
        put_int(out, i64::try_from(size).map_err(|_| Fault::Unwritable("so large an array"))?);
    }
    out.extend(b"tcnumpy\ndtype\n(");
    put(out, &Value::Str(dtype.into()))?;
    out.extend(b"\x89\x88tR(K\x03");
    put(out, &Value::Str(order.into()))?;
    // Objects are pickled and reference-counted (flags 63); numbers have no flags.
    let flags = if dtype == "O8" { 63 } else { 0 };
    out.extend(b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK");
    out.push(flags);
    out.extend(b"tb\x89");
    put_items(out)?;
    out.extend(b"tb");
    Ok(())
}
