//! Which operators have a CUDA kernel in the ONNX Runtime that `make setup` installs.
//!
//! The table is `cuda_kernels.tsv`; its head says where it comes from.

use std::collections::BTreeSet;

use crate::Model;
use crate::proto::NodeProto;
use crate::tensor::Dtype;

const TABLE: &str = include_str!("cuda_kernels.tsv");

/// A line of the table.
struct Kernel {
    operator: &'static str,
    types: &'static str,
}

fn kernels() -> impl Iterator<Item = Kernel> {
    TABLE.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let mut columns = line.split('\t');
        let (operator, _version, types) = (columns.next()?, columns.next()?, columns.next()?);
        Some(Kernel { operator, types })
    })
}

/// Operators of a model that have no CUDA kernel for the types they are used with, each once: `MaxRoiPool (f32)`.
pub fn without_cuda(model: &Model) -> Vec<String> {
    let types = model.types();
    let lacking = model.nodes().iter().filter_map(|node| {
        let name = full_name(node);
        let operand = if node.op_type == "Where" { 1 } else { 0 };
        let dtype =
            node.input.get(operand).and_then(|input| types.get(input)).map(|(dtype, _)| *dtype);
        (!has_cuda(&name, dtype))
            .then(|| dtype.map_or(name.clone(), |dtype| format!("{name} ({dtype})")))
    });
    lacking.collect::<BTreeSet<_>>().into_iter().collect()
}

/// True if an operator (with its domain, if it is not a standard one) has a CUDA kernel for this type; without a type, for
/// any.
pub fn has_cuda(operator: &str, dtype: Option<Dtype>) -> bool {
    let word = dtype.map(|dtype| dtype.to_string());
    kernels().any(|kernel| {
        kernel.operator == operator
            && word.as_ref().is_none_or(|word| kernel.types.split(',').any(|known| known == word))
    })
}

fn full_name(node: &NodeProto) -> String {
    if node.domain.is_empty() {
        node.op_type.clone()
    } else {
        format!("{}.{}", node.domain, node.op_type)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_whole() {
        let words = ["f32", "f16", "i64", "i32", "i8", "u8", "bool"];
        assert!(kernels().count() > 60);
        for kernel in kernels() {
            assert!(
                kernel.types.split(',').all(|word| words.contains(&word)),
                "{}",
                kernel.operator
            );
        }
    }

    #[test]
    fn what_is_known_of_cuda() {
        assert!(has_cuda("Conv", Some(Dtype::F16)));
        assert!(has_cuda("NonMaxSuppression", Some(Dtype::F32)));
        assert!(has_cuda("ArgMax", Some(Dtype::F32)));
        assert!(!has_cuda("ArgMax", Some(Dtype::I64)));
        assert!(!has_cuda("MaxRoiPool", None));
        assert!(!has_cuda("DynamicQuantizeLinear", None));
    }
}
