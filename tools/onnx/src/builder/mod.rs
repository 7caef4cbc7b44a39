//! Builds graphs from operators whose operands are checked, and whose results' types and shapes are known, on the spot.

mod constants;
mod elementwise;
mod linear;
mod reduce;
mod select;
mod spatial;
mod structure;

use std::collections::HashMap;

pub(crate) use constants::OWN_CONSTANTS;
pub use spatial::{ConvOptions, PoolOptions};

use crate::error::{BuildError, BuildFault};
use crate::model::Model;
use crate::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, attribute_type,
};
use crate::shape::{Dim, Shape};
use crate::tensor::Dtype;
use crate::{IR_VERSION, OPSET, model};

/// Something that an operator takes or gives; it belongs to the builder that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Value(usize);

/// What is known of a value.
#[derive(Debug, Clone)]
struct Known {
    name: String,
    dtype: Dtype,
    shape: Shape,
    origin: Origin,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Origin {
    Input,
    Constant,
    Node,
}

/// An operation whose operands are still values, not names.
struct Node {
    op: &'static str,
    domain: &'static str,
    name: String,
    inputs: Vec<Option<Value>>,
    outputs: Vec<Value>,
    attributes: Vec<AttributeProto>,
}

/// A graph in the making.
///
/// ```
/// use onnx::{Dtype, GraphBuilder, TensorData};
///
/// let mut graph = GraphBuilder::new("linear");
/// let x = graph.input("x", Dtype::F32, &["batch".into(), 3.into()])?;
/// let weight = graph.constant("weight", TensorData::new([3, 2], vec![1.0f32; 6])?)?;
/// let y = graph.scope("layer.0", |graph| graph.matmul(x, weight))?;
/// assert_eq!(graph.shape(y).to_string(), "[batch, 2]");
/// graph.output("y", y)?;
/// let model = graph.finish()?;
/// assert_eq!(model.proto().graph.as_ref().unwrap().node[0].name, "layer.0/MatMul");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct GraphBuilder {
    name: String,
    values: Vec<Known>,
    nodes: Vec<Node>,
    constants: Vec<(Value, TensorProto)>,
    /// Constants by the hash of what they hold.
    shared: HashMap<u64, Vec<usize>>,
    inputs: Vec<Value>,
    outputs: Vec<(String, Value)>,
    metadata: Vec<(String, String)>,
    scopes: Vec<String>,
    /// How often a name was wanted.
    names: HashMap<String, usize>,
}

impl GraphBuilder {
    /// An empty graph.
    pub fn new(name: &str) -> GraphBuilder {
        GraphBuilder {
            name: name.to_owned(),
            values: Vec::new(),
            nodes: Vec::new(),
            constants: Vec::new(),
            shared: HashMap::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            metadata: Vec::new(),
            scopes: Vec::new(),
            names: HashMap::new(),
        }
    }

    /// An input of the graph.
    ///
    /// # Errors
    /// [`BuildFault::Name`] if there is one of this name.
    pub fn input(&mut self, name: &str, dtype: Dtype, shape: &[Dim]) -> Result<Value, BuildError> {
        if self.names.insert(name.to_owned(), 1).is_some() {
            return Err(self.fault("input", BuildFault::Name(name.to_owned())));
        }
        let value = self.value(name.to_owned(), dtype, Shape(shape.to_vec()), Origin::Input);
        self.inputs.push(value);
        Ok(value)
    }

    /// Makes a value an output of the graph under this name.
    ///
    /// # Errors
    /// [`BuildFault::Name`] if there is an output of this name.
    pub fn output(&mut self, name: &str, value: Value) -> Result<(), BuildError> {
        if self.outputs.iter().any(|(taken, _)| taken == name) {
            return Err(self.fault("output", BuildFault::Name(name.to_owned())));
        }
        self.outputs.push((name.to_owned(), value));
        Ok(())
    }

    /// Writes something into the file's metadata; the last value of a key counts.
    pub fn metadata(&mut self, key: &str, value: impl Into<String>) {
        self.metadata.retain(|(taken, _)| taken != key);
        self.metadata.push((key.to_owned(), value.into()));
    }

    /// Names of what is built inside begin with this one and a slash.
    ///
    /// # Errors
    /// Those of what is built inside.
    pub fn scope<T, E>(
        &mut self,
        name: &str,
        build: impl FnOnce(&mut GraphBuilder) -> Result<T, E>,
    ) -> Result<T, E> {
        self.scopes.push(name.to_owned());
        let result = build(self);
        self.scopes.pop();
        result
    }

    /// Type of a value's elements.
    pub fn dtype(&self, value: Value) -> Dtype {
        self.values[value.0].dtype
    }

    /// Shape of a value.
    pub fn shape(&self, value: Value) -> &Shape {
        &self.values[value.0].shape
    }

    /// The model: what leads to no output is left out.
    ///
    /// # Errors
    /// [`BuildFault::Name`] if an output's name is an input's, [`BuildFault::Attribute`] if there is no output.
    pub fn finish(mut self) -> Result<Model, BuildError> {
        if self.outputs.is_empty() {
            return Err(
                self.fault("output", BuildFault::Attribute("the graph has no output".into()))
            );
        }
        self.name_outputs()?;
        self.drop_unused();
        Ok(Model::new(self.into_proto()))
    }

    /// Gives values the names of the outputs that they are; one that has a name to keep is passed through an `Identity`.
    fn name_outputs(&mut self) -> Result<(), BuildError> {
        let mut named = HashMap::new();
        for index in 0..self.outputs.len() {
            let (name, value) = self.outputs[index].clone();
            if self.inputs.iter().any(|input| self.values[input.0].name == name) {
                return Err(self.fault("output", BuildFault::Name(name)));
            }
            // A value inside that happens to have an output's name makes way for it.
            if let Some(other) = (0..self.values.len())
                .find(|other| *other != value.0 && self.values[*other].name == name)
            {
                self.values[other].name = self.unique(&name);
            }
            let fresh = self.values[value.0].origin == Origin::Node && !named.contains_key(&value);
            let value = if fresh { value } else { self.identity(value) };
            self.values[value.0].name.clone_from(&name);
            named.insert(value, ());
            self.outputs[index].1 = value;
        }
        Ok(())
    }

    fn drop_unused(&mut self) {
        let mut used = vec![false; self.values.len()];
        self.outputs.iter().for_each(|(_, value)| used[value.0] = true);
        // Nodes stand after what they use: one pass from the end finds all.
        for node in self.nodes.iter().rev() {
            if node.outputs.iter().any(|output| used[output.0]) {
                node.inputs.iter().flatten().for_each(|input| used[input.0] = true);
            }
        }
        self.nodes.retain(|node| node.outputs.iter().any(|output| used[output.0]));
        self.constants.retain(|(value, _)| used[value.0]);
    }

    fn into_proto(self) -> ModelProto {
        let GraphBuilder { name, values, nodes, constants, inputs, outputs, metadata, .. } = self;
        let named = |value: Value| values[value.0].name.clone();
        let info = |value: Value| {
            let known = &values[value.0];
            model::value_info(&known.name, known.dtype, &known.shape)
        };
        let mut domains: Vec<_> =
            nodes.iter().map(|node| node.domain).filter(|domain| !domain.is_empty()).collect();
        domains.sort_unstable();
        domains.dedup();
        let inner = nodes.iter().flat_map(|node| node.outputs.iter().copied());
        let inner = inner.filter(|value| !outputs.iter().any(|(_, output)| output == value));
        let graph = GraphProto {
            value_info: inner.map(info).collect(),
            input: inputs.iter().map(|value| info(*value)).collect(),
            output: outputs.iter().map(|(_, value)| info(*value)).collect(),
            initializer: constants
                .into_iter()
                .map(|(value, proto)| TensorProto { name: named(value), ..proto })
                .collect(),
            node: nodes
                .into_iter()
                .map(|node| NodeProto {
                    input: node
                        .inputs
                        .iter()
                        .map(|input| input.map_or_else(String::new, named))
                        .collect(),
                    output: node.outputs.iter().map(|output| named(*output)).collect(),
                    name: node.name,
                    op_type: node.op.to_owned(),
                    attribute: node.attributes,
                    domain: node.domain.to_owned(),
                })
                .collect(),
            name,
        };
        let opset =
            |domain: &str, version| OperatorSetIdProto { domain: domain.to_owned(), version };
        ModelProto {
            ir_version: IR_VERSION,
            producer_name: "xenc".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            graph: Some(graph),
            opset_import: std::iter::once(opset("", OPSET))
                .chain(domains.into_iter().map(|domain| opset(domain, 1)))
                .collect(),
            metadata_props: metadata
                .into_iter()
                .map(|(key, value)| StringStringEntryProto { key, value })
                .collect(),
        }
    }

    /// Adds a node with one output.
    fn node(
        &mut self,
        op: &'static str,
        inputs: &[Value],
        attributes: Vec<AttributeProto>,
        dtype: Dtype,
        shape: Shape,
    ) -> Value {
        let inputs: Vec<_> = inputs.iter().copied().map(Some).collect();
        self.nodes_of("", op, inputs, attributes, vec![(dtype, shape)])[0]
    }

    /// Adds a node with any number of outputs and inputs that may be left out.
    fn nodes_of(
        &mut self,
        domain: &'static str,
        op: &'static str,
        inputs: Vec<Option<Value>>,
        attributes: Vec<AttributeProto>,
        outputs: Vec<(Dtype, Shape)>,
    ) -> Vec<Value> {
        let place = self.place(op);
        let name = self.unique(&place);
        let several = outputs.len() > 1;
        let outputs: Vec<_> = outputs
            .into_iter()
            .enumerate()
            .map(|(index, (dtype, shape))| {
                let value = if several { format!("{name}.{index}") } else { name.clone() };
                self.value(value, dtype, shape, Origin::Node)
            })
            .collect();
        self.nodes.push(Node { op, domain, name, inputs, outputs: outputs.clone(), attributes });
        outputs
    }

    fn value(&mut self, name: String, dtype: Dtype, shape: Shape, origin: Origin) -> Value {
        self.values.push(Known { name, dtype, shape, origin });
        Value(self.values.len() - 1)
    }

    /// Scope and operator.
    fn place(&self, op: &str) -> String {
        self.scopes.iter().map(String::as_str).chain([op]).collect::<Vec<_>>().join("/")
    }

    /// The name itself, or with a number if it is taken.
    fn unique(&mut self, name: &str) -> String {
        loop {
            let count = self.names.entry(name.to_owned()).or_insert(0);
            *count += 1;
            if *count == 1 {
                return name.to_owned();
            }
            let numbered = format!("{name}_{}", *count - 1);
            if !self.names.contains_key(&numbered) {
                self.names.insert(numbered.clone(), 1);
                return numbered;
            }
        }
    }

    fn fault(&self, op: &str, fault: BuildFault) -> BuildError {
        BuildError { place: self.place(op), fault }
    }

    fn need_float(&self, op: &str, value: Value) -> Result<Dtype, BuildError> {
        let found = self.dtype(value);
        let fault = BuildFault::Dtype { wanted: "f32 or f16 is needed", found };
        if found.is_float() { Ok(found) } else { Err(self.fault(op, fault)) }
    }

    fn need_dtype(
        &self,
        op: &str,
        value: Value,
        wanted: Dtype,
        words: &'static str,
    ) -> Result<(), BuildError> {
        let found = self.dtype(value);
        if found == wanted {
            Ok(())
        } else {
            Err(self.fault(op, BuildFault::Dtype { wanted: words, found }))
        }
    }

    fn need_same(&self, op: &str, one: Value, two: Value) -> Result<Dtype, BuildError> {
        let (one, two) = (self.dtype(one), self.dtype(two));
        if one == two { Ok(one) } else { Err(self.fault(op, BuildFault::Dtypes(one, two))) }
    }

    fn need_rank(&self, op: &str, value: Value, rank: usize) -> Result<Shape, BuildError> {
        let found = self.shape(value).clone();
        if found.rank() == rank {
            return Ok(found);
        }
        Err(self.fault(op, BuildFault::Rank { wanted: format!("{rank} sides are needed"), found }))
    }

    /// An axis counted from the front; negative ones count from the end.
    fn axis(&self, op: &str, shape: &Shape, axis: i64) -> Result<usize, BuildError> {
        let rank = shape.rank() as i64;
        if (-rank..rank).contains(&axis) {
            return Ok(axis.rem_euclid(rank) as usize);
        }
        Err(self.fault(op, BuildFault::Axis { axis, shape: shape.clone() }))
    }

    fn check(
        &self,
        op: &str,
        right: bool,
        what: impl FnOnce() -> String,
    ) -> Result<(), BuildError> {
        if right { Ok(()) } else { Err(self.fault(op, BuildFault::Attribute(what()))) }
    }
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        i: Some(value),
        r#type: attribute_type::INT,
        ..AttributeProto::default()
    }
}

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    let ints = values.to_vec();
    AttributeProto {
        name: name.into(),
        ints,
        r#type: attribute_type::INTS,
        ..AttributeProto::default()
    }
}

fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        f: Some(value),
        r#type: attribute_type::FLOAT,
        ..AttributeProto::default()
    }
}

fn text(name: &str, value: &str) -> AttributeProto {
    let s = Some(value.as_bytes().to_vec().into());
    AttributeProto {
        name: name.into(),
        s,
        r#type: attribute_type::STRING,
        ..AttributeProto::default()
    }
}
