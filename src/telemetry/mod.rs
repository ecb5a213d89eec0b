//! What an operator sees of a running process: log lines and metrics.

pub mod logs;
pub mod metrics;
