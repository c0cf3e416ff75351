//! Outputs: one file or folder each, and one line in the table.

crate::components! {
    /// The settings of an output, by its `type`.
    pub enum OutputConfig: output {
        Blackhole => crate::config::standin::Blackhole,
    }
}
