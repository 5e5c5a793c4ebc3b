//! temp
pub mod encode;
/// temp
pub type CommandId = Box<str>;
