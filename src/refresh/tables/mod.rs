//! Typed tables become what the configuration says: what would change is told first ([`plan()`]), then the tables are made beside
//! those that are read, filled from the stored copies, without asking any upstream, and opened ([`keep()`]).

mod adopt;
pub mod keep;
pub mod plan;

pub use keep::{keep, settle_all};
pub use plan::{Change, Plan, plan};
