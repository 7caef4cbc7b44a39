//! 8-bit products: the weights of matrix products as 8-bit integers with a scale per column, the other operand rounded to
//! 8 bits when the graph runs, by the range that it has then.

use std::collections::{HashMap, HashSet};

use super::PassError;
use crate::Model;
use crate::model::value_info;
use crate::proto::{
    AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto, attribute_type,
};
use crate::shape::{Dim, Shape};
use crate::tensor::{Dtype, TensorData};

/// Which products are rounded.
#[derive(Debug, Clone, Copy)]
pub struct QuantizeOptions<'a> {
    /// Weights with fewer elements stay as they are: rounding the other operand would cost more than it saves.
    pub smallest: usize,
    /// Nodes whose names begin with one of these stay as they are.
    pub kept: &'a [&'a str],
}

impl Default for QuantizeOptions<'_> {
    fn default() -> Self {
        QuantizeOptions { smallest: 4096, kept: &[] }
    }
}

/// The model with 8-bit products where one operand is a constant matrix of f32. Runs on the CPU: CUDA has no kernel that
/// rounds at run time.
///
/// # Errors
/// [`PassError`] for a model that does not tell the types of its values.
pub fn quantize(model: &Model, options: QuantizeOptions) -> Result<Model, PassError> {
    let mut proto = model.proto().clone();
    if let Some(graph) = proto.graph.take() {
        let pass = Quantize {
            types: model.types(),
            options,
            rounded: HashSet::new(),
            uses: HashMap::new(),
            nodes: Vec::new(),
            infos: Vec::new(),
        };
        proto.graph = Some(pass.run(graph)?);
    }
    Ok(Model::new(proto))
}

struct Quantize<'a> {
    types: HashMap<String, (Dtype, Shape)>,
    options: QuantizeOptions<'a>,
    /// Values that are there as 8 bits already.
    rounded: HashSet<String>,
    /// How many products have had a weight so far.
    uses: HashMap<String, usize>,
    nodes: Vec<NodeProto>,
    infos: Vec<ValueInfoProto>,
}

impl Quantize<'_> {
    fn run(mut self, mut graph: GraphProto) -> Result<GraphProto, PassError> {
        let weights: HashMap<String, TensorProto> = graph
            .initializer
            .iter()
            .map(|constant| (constant.name.clone(), constant.clone()))
            .collect();
        let mut columns = HashMap::new();
        for node in std::mem::take(&mut graph.node) {
            match self.weight_of(&node, &weights) {
                Some(weight) => {
                    if !columns.contains_key(&weight.name) {
                        columns.insert(weight.name.clone(), rounded_columns(weight)?);
                    }
                    self.product(node)?;
                }
                None => self.nodes.push(node),
            }
        }
        graph.node = self.nodes;
        graph.value_info.extend(self.infos);
        let used: HashSet<&String> = graph.node.iter().flat_map(|node| &node.input).collect();
        graph.initializer.retain(|constant| used.contains(&constant.name));
        // In the order of the weights, so that equal models give equal files.
        let mut columns: Vec<_> = columns.into_iter().collect();
        columns.sort_by(|one, two| one.0.cmp(&two.0));
        for (_, constants) in columns {
            graph.initializer.extend(constants);
        }
        Ok(graph)
    }

    fn weight_of<'w>(
        &self,
        node: &NodeProto,
        weights: &'w HashMap<String, TensorProto>,
    ) -> Option<&'w TensorProto> {
        let kept = self.options.kept.iter().any(|prefix| node.name.starts_with(prefix));
        let weight = weights.get(node.input.get(1)?)?;
        let shape = crate::tensor::shape_of(weight).ok()?;
        let elements = shape.iter().try_fold(1usize, |product, side| product.checked_mul(*side))?;
        let suits = node.op_type == "MatMul"
            && node.domain.is_empty()
            && !kept
            && weight.data_type == Dtype::F32.code()
            && shape.len() == 2
            && elements >= self.options.smallest.max(1);
        suits.then_some(weight)
    }

    /// Replaces a product by: round x, multiply integers, times the scales of x and of each column.
    fn product(&mut self, node: NodeProto) -> Result<(), PassError> {
        let (x, weight, output) = (&node.input[0], &node.input[1], &node.output[0]);
        let shape_of = |name: &String| {
            self.types
                .get(name)
                .map(|(_, shape)| shape.clone())
                .ok_or_else(|| PassError::Untyped(name.clone()))
        };
        let (x_shape, w_shape, shape) = (shape_of(x)?, shape_of(weight)?, shape_of(output)?);
        let [q, scale, zero] = ["q", "scale", "zero"].map(|part| format!("{x}/{part}"));
        if self.rounded.insert(x.clone()) {
            self.push(
                "DynamicQuantizeLinear",
                format!("{x}/round"),
                &[x],
                &[&q, &scale, &zero],
                Vec::new(),
            );
            self.tell(&q, Dtype::U8, x_shape);
            self.tell(&scale, Dtype::F32, Shape::default());
            self.tell(&zero, Dtype::U8, Shape::default());
        }
        let [w_q, w_scale] = column_names(weight);
        let w_q = self.own(w_q, w_shape);
        let [sums, floats, scales] =
            ["sums", "floats", "scales"].map(|part| format!("{}/{part}", node.name));
        self.push("MatMulInteger", node.name.clone(), &[&q, &w_q, &zero], &[&sums], Vec::new());
        self.push("Cast", format!("{floats}/Cast"), &[&sums], &[&floats], vec![to_f32()]);
        self.push("Mul", format!("{scales}/Mul"), &[&scale, &w_scale], &[&scales], Vec::new());
        self.push("Mul", format!("{}/Mul", node.name), &[&floats, &scales], &[output], Vec::new());
        let width = Shape(vec![shape.0.last().cloned().unwrap_or(Dim::Any)]);
        self.tell(&sums, Dtype::I32, shape.clone());
        self.tell(&floats, Dtype::F32, shape);
        self.tell(&scales, Dtype::F32, width);
        Ok(())
    }

    /// A weight for one more product. ONNX Runtime replaces the weights of products whose sums would overflow, and fails if
    /// it has replaced one already; what goes through a node before, which it computes when it loads the file, is another.
    fn own(&mut self, weight: String, shape: Shape) -> String {
        let uses = self.uses.entry(weight.clone()).or_default();
        *uses += 1;
        if *uses == 1 {
            return weight;
        }
        let again = format!("{weight}/{uses}");
        let axis = AttributeProto {
            name: "axis".into(),
            i: Some(0),
            r#type: attribute_type::INT,
            ..AttributeProto::default()
        };
        self.push("Concat", format!("{again}/Concat"), &[&weight], &[&again], vec![axis]);
        self.tell(&again, Dtype::I8, shape);
        again
    }

    fn push(
        &mut self,
        op: &str,
        name: String,
        inputs: &[&String],
        outputs: &[&String],
        attribute: Vec<AttributeProto>,
    ) {
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|name| (*name).clone()).collect(),
            output: outputs.iter().map(|name| (*name).clone()).collect(),
            name,
            op_type: op.to_owned(),
            attribute,
            ..NodeProto::default()
        });
    }

    fn tell(&mut self, name: &str, dtype: Dtype, shape: Shape) {
        self.infos.push(value_info(name, dtype, &shape));
    }
}

fn column_names(weight: &str) -> [String; 2] {
    ["q", "scale"].map(|part| format!("{weight}/{part}"))
}

/// A matrix as i8, with a scale per column; 0 stays 0.
fn rounded_columns(weight: &TensorProto) -> Result<[TensorProto; 2], PassError> {
    let fault = |source| PassError::Constant { name: weight.name.clone(), source };
    let data = TensorData::from_proto(weight).map_err(fault)?;
    let (shape, values) = (data.shape(), data.f32s().map_err(fault)?);
    let columns = shape[1];
    let mut largest = vec![0.0f32; columns];
    for row in values.chunks_exact(columns) {
        largest
            .iter_mut()
            .zip(row)
            .for_each(|(largest, value)| *largest = largest.max(value.abs()));
    }
    // A column of zeros has any scale.
    let scales: Vec<f32> =
        largest.iter().map(|largest| if *largest > 0.0 { largest / 127.0 } else { 1.0 }).collect();
    let round = |(value, scale): (&f32, &f32)| (value / scale).round().clamp(-127.0, 127.0) as i8;
    let rounded: Vec<i8> =
        values.chunks_exact(columns).flat_map(|row| row.iter().zip(&scales).map(round)).collect();
    let [q, scale] = column_names(&weight.name);
    Ok([
        TensorData::new(shape.to_vec(), rounded).map_err(fault)?.into_proto(q),
        TensorData::new([columns], scales).map_err(fault)?.into_proto(scale),
    ])
}

fn to_f32() -> AttributeProto {
    AttributeProto {
        name: "to".into(),
        i: Some(Dtype::F32.code().into()),
        r#type: attribute_type::INT,
        ..AttributeProto::default()
    }
}
