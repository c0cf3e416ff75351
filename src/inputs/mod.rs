//! Inputs: each is a file or a directory, and one line in the table.

pub mod file;
pub mod stdin;

crate::components! {
    /// The settings of an input, by its `type`.
    pub enum InputConfig: input {
        File => file::Settings,
        Stdin => stdin::Settings,
    }
}
