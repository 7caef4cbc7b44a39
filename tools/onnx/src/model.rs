//! A whole graph with its constants: what is written to a file, rewritten by passes, or read back.

use std::collections::HashMap;

use crate::proto::{
    ModelProto, NodeProto, StringStringEntryProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use crate::shape::Shape;
use crate::tensor::{Dtype, TensorData, TensorError};

/// A graph with its constants, all in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    proto: ModelProto,
}

impl Model {
    pub(crate) fn new(proto: ModelProto) -> Model {
        Model { proto }
    }

    /// The message as it stands in a file.
    pub fn proto(&self) -> &ModelProto {
        &self.proto
    }

    /// The nodes, in an order in which they can run.
    pub fn nodes(&self) -> &[NodeProto] {
        self.proto.graph.as_ref().map_or(&[], |graph| &graph.node)
    }

    /// What the metadata says under this key.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.proto
            .metadata_props
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| entry.value.as_str())
    }

    /// Writes something into the file's metadata; the last value of a key counts.
    pub fn set_metadata(&mut self, key: &str, value: impl Into<String>) {
        self.proto.metadata_props.retain(|entry| entry.key != key);
        let entry = StringStringEntryProto { key: key.to_owned(), value: value.into() };
        self.proto.metadata_props.push(entry);
    }

    /// Inputs: name, type, shape.
    pub fn inputs(&self) -> Vec<(String, Dtype, Shape)> {
        self.described(|graph| &graph.input)
    }

    /// Outputs: name, type, shape.
    pub fn outputs(&self) -> Vec<(String, Dtype, Shape)> {
        self.described(|graph| &graph.output)
    }

    /// The constant of this name.
    ///
    /// # Errors
    /// [`TensorError`] for types that are not known here.
    pub fn constant(&self, name: &str) -> Option<Result<TensorData, TensorError>> {
        let graph = self.proto.graph.as_ref()?;
        graph.initializer.iter().find(|proto| proto.name == name).map(TensorData::from_proto)
    }

    /// Bytes of all constants.
    pub fn constant_bytes(&self) -> u64 {
        let graph = self.proto.graph.iter();
        let sizes =
            graph.flat_map(|graph| &graph.initializer).filter_map(|proto| proto.raw_data.as_ref());
        sizes.map(|bytes| bytes.len() as u64).sum()
    }

    /// Types of all values that the file tells of.
    pub(crate) fn types(&self) -> HashMap<String, (Dtype, Shape)> {
        let mut types = HashMap::new();
        if let Some(graph) = &self.proto.graph {
            for info in graph.input.iter().chain(&graph.output).chain(&graph.value_info) {
                if let Some(known) = type_of(info) {
                    types.insert(info.name.clone(), known);
                }
            }
            for constant in &graph.initializer {
                if let (Some(dtype), Ok(shape)) =
                    (Dtype::from_code(constant.data_type), crate::tensor::shape_of(constant))
                {
                    types.insert(constant.name.clone(), (dtype, Shape::fixed(&shape)));
                }
            }
        }
        types
    }

    fn described(
        &self,
        which: impl Fn(&crate::proto::GraphProto) -> &[ValueInfoProto],
    ) -> Vec<(String, Dtype, Shape)> {
        let infos = self.proto.graph.iter().flat_map(which);
        infos
            .filter_map(|info| {
                type_of(info).map(|(dtype, shape)| (info.name.clone(), dtype, shape))
            })
            .collect()
    }
}

pub(crate) fn value_info(name: &str, dtype: Dtype, shape: &Shape) -> ValueInfoProto {
    let tensor = TensorTypeProto { elem_type: dtype.code(), shape: Some(shape.to_proto()) };
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type: Some(tensor) }) }
}

fn type_of(info: &ValueInfoProto) -> Option<(Dtype, Shape)> {
    let tensor = info.r#type.as_ref()?.tensor_type.as_ref()?;
    Some((Dtype::from_code(tensor.elem_type)?, Shape::from_proto(tensor.shape.as_ref()?)))
}
