//! Inputs: one file or folder each, and one line in the table.

crate::components! {
    /// The settings of an input, by its `type`.
    pub enum InputConfig: input {
        File => crate::config::standin::FileInput,
    }
}
