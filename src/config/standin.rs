//! Stand-ins for the components of other branches.
use super::component::*;
use super::types::*;
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;
use tailwater_shards::env::Env;
use tailwater_shards::plugin::*;
use tailwater_shards::route::ShardBy;

/// input
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileInput {
    /// globs
    pub include: Vec<String>,
    #[serde(default = "d")]
    /// longest
    pub max_line_bytes: ByteSize,
    #[serde(default)]
    /// fields
    pub fields: FieldNames,
    #[serde(default)]
    /// ring
    pub ring: Ring,
}
fn d() -> ByteSize {
    ByteSize(262144)
}
impl Component for FileInput {
    const NAME: &'static str = "file";
    const SUMMARY: &'static str = "Follows files.";
    const EXAMPLE: &'static str = "type: file\ninclude: [/var/log/*.log]\n";
    fn check(&self) -> Result<(), Mistake> {
        match self.include.is_empty() {
            true => {
                Err(Mistake { key: "include".into(), what: "`include` is empty".into(), help: "name a pattern".into() })
            }
            false => Ok(()),
        }
    }
}
struct No;
impl<E: Env> InputSpec<E> for No {
    fn placement(&self) -> Placement {
        Placement::One
    }
    fn run(&self, _: InputContext<E>) -> LocalFuture<'static, Result<(), PluginError>> {
        Box::pin(async { Err(PluginError::Fatal("stand-in".into())) })
    }
}
impl EncoderSpec for No {
    fn open(&self) -> Box<dyn Encoder> {
        panic!("stand-in")
    }
}
impl<E: Env> InputSettings<E> for FileInput {
    fn spec(&self, _: &Facts) -> Arc<dyn InputSpec<E>> {
        Arc::new(No)
    }
    fn encoder(&self, _: &Facts) -> Arc<dyn EncoderSpec> {
        Arc::new(No)
    }
    fn fields(&self) -> &FieldNames {
        &self.fields
    }
    fn ring(&self) -> &Ring {
        &self.ring
    }
    fn shard_by(&self) -> ShardBy {
        ShardBy::Source
    }
    fn line_bytes_max(&self) -> usize {
        self.max_line_bytes.0 as usize
    }
}
