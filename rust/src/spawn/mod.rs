//! One container from its specification to its outcome: plan, keeper, waiting. The calling thread waits; no thread of ours.

mod accounts;
pub mod causes;
mod check;
pub mod disk;
pub mod engine;
pub mod exec;
pub mod explain;
mod feed;
pub mod handle;
mod identities;
pub mod keeper;
pub mod late;
pub mod layer;
pub mod limits;
pub mod log;
pub mod order;
pub mod outcome;
pub mod plan;
pub mod prepare;
pub mod probe;
pub mod run;
pub mod seams;
pub mod sources;
mod spaces;
pub mod spec;
pub mod streams;
pub mod upper;
