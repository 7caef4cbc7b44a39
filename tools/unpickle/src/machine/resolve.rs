//! From the arena to a plain tree.

use super::{Foreign, Id, MAX_DEPTH, Machine, Node};
use crate::{Fault, Value};

impl Machine<'_> {
    /// The tree below a node, within the limits of depth and size: shared values are copied, and a stream of a few
    /// bytes could otherwise stand for more than fits into memory.
    pub(super) fn resolve(&self, id: Id, depth: usize, budget: &mut usize) -> Result<Value, Fault> {
        if depth == 0 {
            return Err(Fault::TooDeep(MAX_DEPTH));
        }
        *budget = budget.checked_sub(1).ok_or(Fault::TooLarge(0))?;
        let mut all = |ids: &[Id]| self.resolve_all(ids, depth, budget);
        Ok(match &self.arena[id] {
            Node::Plain(value) => value.clone(),
            Node::List(items) => Value::List(all(items)?),
            Node::Tuple(items) => Value::Tuple(all(items)?),
            Node::ObjectArray { shape, items } => {
                Value::ObjectArray { shape: shape.clone(), items: all(items)? }
            }
            Node::Dict(pairs) => {
                let pair = |&(key, value): &(Id, Id)| {
                    Ok((
                        self.resolve(key, depth - 1, budget)?,
                        self.resolve(value, depth - 1, budget)?,
                    ))
                };
                Value::Dict(pairs.iter().map(pair).collect::<Result<_, Fault>>()?)
            }
            Node::Foreign { module, name } => {
                Value::Global { module: module.clone(), name: name.clone() }
            }
            Node::Call { callable, arguments } => Value::Call {
                callable: Box::new(self.resolve(*callable, depth - 1, budget)?),
                arguments: self.resolve_all(arguments, depth, budget)?,
            },
            Node::Object { class, arguments, state } => Value::Object {
                class: Box::new(self.resolve(*class, depth - 1, budget)?),
                arguments: self.resolve_all(arguments, depth, budget)?,
                state: Box::new(self.resolve(*state, depth - 1, budget)?),
            },
            Node::Persistent(id) => {
                Value::Persistent(Box::new(self.resolve(*id, depth - 1, budget)?))
            }
            // A bare type among the arguments of a foreign call: its name is of no interest.
            Node::Global(_) if self.foreign != Foreign::Refused => Value::None,
            Node::Global(_) | Node::Dtype(_) | Node::EmptyArray => {
                return Err(Fault::Malformed("a constructor where a value should be"));
            }
        })
    }

    fn resolve_all(
        &self,
        ids: &[Id],
        depth: usize,
        budget: &mut usize,
    ) -> Result<Vec<Value>, Fault> {
        ids.iter().map(|&id| self.resolve(id, depth - 1, budget)).collect()
    }
}
