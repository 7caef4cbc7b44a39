//! Half precision: constants and arithmetic in f16, inputs and outputs as they were.

use std::collections::{HashMap, HashSet};

use ::half::f16;

use super::PassError;
use crate::Model;
use crate::builder::OWN_CONSTANTS;
use crate::model::value_info;
use crate::proto::{
    AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto, attribute_type,
};
use crate::shape::Shape;
use crate::tensor::{Dtype, Elements, TensorData};

/// Operators that stay in f32: those that sum up squares (the original CLIP keeps them so, too), and those that decide or
/// count, where a rounded operand would give another answer.
const KEPT: [&str; 8] = [
    "LayerNormalization",
    "ReduceL2",
    "NonMaxSuppression",
    "TopK",
    "ArgMax",
    "CumSum",
    "Cast",
    "MaxRoiPool",
];

/// What stays in f32.
#[derive(Debug, Clone, Copy, Default)]
pub struct HalfOptions<'a> {
    /// Nodes whose names begin with one of these stay in f32, besides the operators that always do.
    pub kept: &'a [&'a str],
}

/// The model with constants and arithmetic in f16. Inputs and outputs keep their types.
///
/// # Errors
/// [`PassError`] for a model that does not tell the types of its values, and for weights beyond f16's range.
pub fn half(model: &Model, options: HalfOptions) -> Result<Model, PassError> {
    let mut proto = model.proto().clone();
    if let Some(graph) = proto.graph.take() {
        proto.graph = Some(Half::new(model, &graph, options).run(graph)?);
    }
    Ok(Model::new(proto))
}

struct Half<'a> {
    types: HashMap<String, (Dtype, Shape)>,
    options: HalfOptions<'a>,
    constants: HashSet<String>,
    outputs: HashSet<String>,
    /// Values that are f16 now.
    halved: HashSet<String>,
    /// Casts that are there already: value and type.
    cast: HashSet<String>,
    nodes: Vec<NodeProto>,
    infos: Vec<ValueInfoProto>,
    /// Constants wanted in f16, and in f32.
    wanted: [HashSet<String>; 2],
}

impl<'a> Half<'a> {
    fn new(model: &Model, graph: &GraphProto, options: HalfOptions<'a>) -> Half<'a> {
        Half {
            types: model.types(),
            options,
            constants: graph.initializer.iter().map(|constant| constant.name.clone()).collect(),
            outputs: graph.output.iter().map(|output| output.name.clone()).collect(),
            halved: HashSet::new(),
            cast: HashSet::new(),
            nodes: Vec::new(),
            infos: Vec::new(),
            wanted: Default::default(),
        }
    }

    fn run(mut self, mut graph: GraphProto) -> Result<GraphProto, PassError> {
        for node in std::mem::take(&mut graph.node) {
            self.node(node)?;
        }
        graph.initializer = self.constants_of(graph.initializer)?;
        graph.node = self.nodes;
        graph.value_info = self.infos;
        Ok(graph)
    }

    fn node(&mut self, mut node: NodeProto) -> Result<(), PassError> {
        let halves = !self.stays(&node);
        for input in &mut node.input {
            if !input.is_empty() && self.is_f32(input)? {
                *input = self.operand(input, halves);
            }
        }
        let mut after = Vec::new();
        for output in &mut node.output {
            let (dtype, shape) = self.type_of(output)?;
            if !(halves && dtype == Dtype::F32) {
                self.tell(output, dtype, &shape);
                continue;
            }
            if self.outputs.contains(output) {
                let inner = format!("{output}/f16");
                after.push(cast_node(&inner, output, Dtype::F32));
                self.types.insert(inner.clone(), (Dtype::F32, shape.clone()));
                self.tell(&inner, Dtype::F16, &shape);
                self.halved.insert(inner.clone());
                // Others inside read the f32 output back, unless they ask for the inner value by its type.
                self.cast.insert(format!("{output}/f16"));
                *output = inner;
            } else {
                self.halved.insert(output.clone());
                self.tell(output, Dtype::F16, &shape);
            }
        }
        self.nodes.push(node);
        self.nodes.append(&mut after);
        Ok(())
    }

    /// The name under which an operand is there in the type that is wanted.
    fn operand(&mut self, name: &str, halves: bool) -> String {
        if self.constants.contains(name) {
            self.wanted[usize::from(!halves)].insert(name.to_owned());
            return if halves { format!("{name}/f16") } else { name.to_owned() };
        }
        if self.halved.contains(name) == halves {
            return name.to_owned();
        }
        let dtype = if halves { Dtype::F16 } else { Dtype::F32 };
        let cast = format!("{name}/{dtype}");
        if self.cast.insert(cast.clone()) {
            self.nodes.push(cast_node(name, &cast, dtype));
            let shape = self.types[name].1.clone();
            self.tell(&cast, dtype, &shape);
        }
        cast
    }

    fn stays(&self, node: &NodeProto) -> bool {
        KEPT.contains(&node.op_type.as_str())
            || self.options.kept.iter().any(|prefix| node.name.starts_with(prefix))
    }

    fn constants_of(&self, constants: Vec<TensorProto>) -> Result<Vec<TensorProto>, PassError> {
        let [halved, whole] = &self.wanted;
        let mut out = Vec::with_capacity(constants.len());
        for constant in constants {
            if halved.contains(&constant.name) {
                let name = constant.name.clone();
                let data = TensorData::from_proto(&constant)
                    .map_err(|source| PassError::Constant { name: name.clone(), source })?;
                check_range(&name, &data)?;
                out.push(data.to_f16().into_proto(format!("{name}/f16")));
            }
            if whole.contains(&constant.name) || constant.data_type != Dtype::F32.code() {
                out.push(constant);
            }
        }
        Ok(out)
    }

    fn tell(&mut self, name: &str, dtype: Dtype, shape: &Shape) {
        if !self.outputs.contains(name) {
            self.infos.push(value_info(name, dtype, shape));
        }
    }

    fn is_f32(&self, name: &str) -> Result<bool, PassError> {
        Ok(self.type_of(name)?.0 == Dtype::F32)
    }

    fn type_of(&self, name: &str) -> Result<(Dtype, Shape), PassError> {
        self.types.get(name).cloned().ok_or_else(|| PassError::Untyped(name.to_owned()))
    }
}

/// Refuses a weight that would be clipped: other numbers would come out, and nothing would say so. What a graph says of
/// itself (masks, bounds) means "more than all others", which the largest f16 means as well; what underflows is near enough
/// to 0.
fn check_range(name: &str, data: &TensorData) -> Result<(), PassError> {
    let Elements::F32(values) = data.elements() else { return Ok(()) };
    if name.starts_with(OWN_CONSTANTS) {
        return Ok(());
    }
    let finite = values.iter().copied().filter(|value| value.is_finite());
    let largest = finite.max_by(|one, two| one.abs().total_cmp(&two.abs()));
    match largest.filter(|largest| f16::from_f32(*largest).is_infinite()) {
        Some(largest) => Err(PassError::Range { name: name.to_owned(), largest }),
        None => Ok(()),
    }
}

fn cast_node(from: &str, to: &str, dtype: Dtype) -> NodeProto {
    let attribute = AttributeProto {
        name: "to".into(),
        i: Some(dtype.code().into()),
        r#type: attribute_type::INT,
        ..AttributeProto::default()
    };
    NodeProto {
        input: vec![from.to_owned()],
        output: vec![to.to_owned()],
        name: format!("{to}/Cast"),
        op_type: "Cast".into(),
        attribute: vec![attribute],
        ..NodeProto::default()
    }
}
