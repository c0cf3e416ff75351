//! Outputs: each is a file or a directory, and one line in the table.

pub mod blackhole;
pub mod console;
pub mod distinct;
pub mod elasticsearch;
pub mod encoding;
pub mod file;
pub mod gone;
pub mod http;
pub mod letters;
pub mod requests;

crate::components! {
    /// The settings of an output, by its `type`.
    pub enum OutputConfig: output {
        Blackhole => blackhole::Settings,
        Console => console::Settings,
        Elasticsearch => elasticsearch::Settings,
        File => file::Settings,
        Http => http::Settings,
    }
}
