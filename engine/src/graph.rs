//! The order of steps as a petgraph DAG: `needs`, references, and a barrier between phases.

use crate::{
    event::Phase,
    expr::Expr,
    playbook::{Playbook, StepDef, global},
};
use petgraph::{
    algo::{tarjan_scc, toposort},
    graph::{DiGraph, NodeIndex},
    visit::EdgeRef,
};
use std::collections::{BTreeMap, BTreeSet};

/// A node of the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// A step: its position in [`Playbook::steps`].
    Step(usize),
    /// Everything of this phase is done.
    Barrier(Phase),
}

/// Why one node comes before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// `needs` names it.
    Needs,
    /// An expression refers to it.
    Reference,
    /// The phase before has to be done.
    Barrier,
}

/// The steps of a playbook in their order.
#[derive(Clone, Debug)]
pub struct Graph {
    /// The petgraph graph; an edge leads from what comes first.
    pub graph: DiGraph<Node, Edge>,
    nodes: Vec<NodeIndex>,
}

/// Steps that wait for each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cycle {
    /// Positions in [`Playbook::steps`], each before the next, the last before the first.
    pub steps: Vec<usize>,
}

impl Cycle {
    /// `a -> b -> a`.
    #[must_use]
    pub fn names(&self, playbook: &Playbook) -> String {
        let mut names: Vec<&str> = self.steps.iter().map(|step| playbook.steps[*step].id.as_str()).collect();
        names.extend(names.first().copied());
        names.join(" -> ")
    }
}

/// The ids of the steps that an expression anywhere in `step` refers to, and whether each such reference reads only
/// the item of its own key: then an item of a `foreach` depends on that item alone.
#[must_use]
pub fn references(step: &StepDef) -> BTreeMap<String, bool> {
    let mut found = BTreeMap::new();
    let mut note = |expr: &Expr| {
        for reference in expr.references() {
            if let Some(id) = reference.step() {
                *found.entry(global(step.include.as_deref(), id)).or_insert(true) &= reference.by_own_key;
            }
        }
    };
    step.when.iter().chain(&step.expect).for_each(&mut note);
    step.body.for_each_expr(&mut note);
    if let Some(undo) = &step.undo {
        undo.for_each_expr(&mut note);
    }
    found
}

impl Graph {
    /// The graph of a playbook's steps.
    ///
    /// # Errors
    /// All cycles.
    pub fn new(playbook: &Playbook) -> Result<Self, Vec<Cycle>> {
        let steps = &playbook.steps;
        let mut graph = DiGraph::with_capacity(steps.len() + Phase::ALL.len(), steps.len() * 2);
        let nodes: Vec<NodeIndex> = (0..steps.len()).map(|step| graph.add_node(Node::Step(step))).collect();
        let by_id: BTreeMap<&str, usize> =
            steps.iter().enumerate().map(|(i, step)| (step.id.as_str(), i)).collect();
        for (position, step) in steps.iter().enumerate() {
            let needs = step.needs.iter().map(|(id, _)| (id.clone(), Edge::Needs));
            let read = references(step).into_keys().map(|id| (id, Edge::Reference));
            for (id, edge) in needs.chain(read) {
                let Some(&before) = by_id.get(id.as_str()) else { continue };
                if steps[before].phase == step.phase {
                    graph.update_edge(nodes[before], nodes[position], edge);
                }
            }
        }
        let mut before: Option<NodeIndex> = None;
        for phase in Phase::ALL {
            let members = || (0..steps.len()).filter(|step| steps[*step].phase == phase);
            if members().next().is_none() {
                continue;
            }
            let barrier = graph.add_node(Node::Barrier(phase));
            for step in members() {
                graph.update_edge(nodes[step], barrier, Edge::Barrier);
                if let Some(before) = before {
                    graph.update_edge(before, nodes[step], Edge::Barrier);
                }
            }
            before = Some(barrier);
        }
        let made = Self { graph, nodes };
        let cycles = made.cycles();
        if cycles.is_empty() { Ok(made) } else { Err(cycles) }
    }

    /// The steps that come directly before `step`, in its own phase.
    #[must_use]
    pub fn before(&self, step: usize) -> Vec<usize> {
        let mut found: Vec<usize> = self
            .graph
            .edges_directed(self.nodes[step], petgraph::Direction::Incoming)
            .filter_map(|edge| match self.graph[edge.source()] {
                Node::Step(before) => Some(before),
                Node::Barrier(_) => None,
            })
            .collect();
        found.sort_unstable();
        found
    }

    /// All steps, each after what it needs; where that leaves a choice, as in the file.
    #[must_use]
    pub fn order(&self) -> Vec<usize> {
        let sorted = toposort(&self.graph, None).unwrap_or_default();
        sorted
            .into_iter()
            .filter_map(|node| match self.graph[node] {
                Node::Step(step) => Some(step),
                Node::Barrier(_) => None,
            })
            .collect()
    }

    fn cycles(&self) -> Vec<Cycle> {
        let mut cycles: Vec<Cycle> = tarjan_scc(&self.graph)
            .into_iter()
            .filter(|members| members.len() > 1 || self.graph.contains_edge(members[0], members[0]))
            .map(|members| self.shortest_cycle(&members))
            .collect();
        cycles.sort_by_key(|cycle| cycle.steps.clone());
        cycles
    }

    /// A component may hold many cycles; the shortest through its first step is the one to show.
    fn shortest_cycle(&self, members: &[NodeIndex]) -> Cycle {
        let inside: BTreeSet<NodeIndex> = members.iter().copied().collect();
        let start = *inside.iter().next().unwrap_or(&members[0]);
        let mut came_from: BTreeMap<NodeIndex, NodeIndex> = BTreeMap::new();
        let mut queue = std::collections::VecDeque::from([start]);
        while let Some(node) = queue.pop_front() {
            for next in self.graph.neighbors(node).filter(|next| inside.contains(next)) {
                if next == start {
                    let mut path = vec![node];
                    while let Some(previous) = came_from.get(path.last().unwrap_or(&start)) {
                        path.push(*previous);
                    }
                    path.reverse();
                    let steps = path.iter().filter_map(|node| match self.graph[*node] {
                        Node::Step(step) => Some(step),
                        Node::Barrier(_) => None,
                    });
                    return Cycle { steps: steps.collect() };
                }
                if next != start && !came_from.contains_key(&next) {
                    came_from.insert(next, node);
                    queue.push_back(next);
                }
            }
        }
        Cycle { steps: Vec::new() }
    }
}
