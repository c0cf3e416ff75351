//! The table of transforms.

/// A row of the table, for help and documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The name.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// An entry of `transforms` that `validate` accepts.
    pub example: &'static str,
    /// Events, one per line, that show the effect of the example.
    pub sample: &'static str,
}

/// A key beside a transform that is alone in its entry.
pub struct Second;

impl<'de> serde::Deserialize<'de> for Second {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Second, D::Error> {
        let name = String::deserialize(deserializer)?;
        let rule = "is a second transform in one entry; begin a new entry of the list with it";
        Err(serde::de::Error::custom(format!("`{name}` {rule}")))
    }
}

/// Makes the table of verbs: `transforms! { pub enum Step { Add => add::Settings, } }`. The verb `if` has additional keys
/// beside it. All other verbs are the only key of their map.
#[macro_export]
macro_rules! transforms {
    ($(#[$meta:meta])* pub enum $table:ident { $($variant:ident => $settings:ty),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub enum $table {
            $(
                #[allow(missing_docs, reason = "the row of the table says what it is")]
                $variant($settings),
            )*
            #[allow(missing_docs, reason = "the row of the table says what it is")]
            If($crate::transforms::branch::Settings),
        }

        impl $table {
            /// All verbs.
            pub const ROWS: &'static [$crate::transforms::Row] = &[
                $($crate::transforms::Row {
                    name: <$settings as $crate::transforms::Verb>::NAME,
                    summary: <$settings as $crate::transforms::Verb>::SUMMARY,
                    example: <$settings as $crate::transforms::Verb>::EXAMPLE,
                    sample: <$settings as $crate::transforms::Verb>::SAMPLE,
                },)*
                $crate::transforms::Row {
                    name: $crate::transforms::branch::Settings::NAME,
                    summary: $crate::transforms::branch::Settings::SUMMARY,
                    example: $crate::transforms::branch::Settings::EXAMPLE,
                    sample: $crate::transforms::SAMPLE,
                },
            ];
            /// The names of all verbs.
            pub const NAMES: &'static [&'static str] =
                &[$(<$settings as $crate::transforms::Verb>::NAME,)* $crate::transforms::branch::Settings::NAME];

            /// The name.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => <$settings as $crate::transforms::Verb>::NAME,)*
                    Self::If(_) => $crate::transforms::branch::Settings::NAME,
                }
            }

            /// The reason for a failure without details.
            pub fn failure(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => <$settings as $crate::transforms::Verb>::FAILURE,)*
                    // Its condition knows why.
                    Self::If(_) => $crate::transforms::FAILURE,
                }
            }

            /// Why it failed on an event, or dropped it; none if no details are known.
            pub fn explain(&self, before: &$crate::transforms::reasons::Before<'_>) -> Option<String> {
                match self {
                    $(Self::$variant(settings) => $crate::transforms::Verb::explain(settings, before),)*
                    Self::If(_) => None,
                }
            }

            /// Checks what types cannot express. The key in a mistake is relative to the entry.
            pub fn check(&self) -> Vec<$crate::config::component::Mistake> {
                let checked = match self {
                    $(Self::$variant(settings) => $crate::transforms::Verb::check(settings),)*
                    Self::If(settings) => return settings.check(),
                };
                checked.into_iter().map(|mistake| mistake.below(self.name())).collect()
            }

            /// What is valid but probably a mistake. Keys are relative to the entry.
            pub fn doubts(&self) -> Vec<$crate::config::component::Doubtful> {
                let all = match self {
                    $(Self::$variant(settings) => $crate::transforms::Verb::doubts(settings),)*
                    Self::If(settings) => return settings.doubts(),
                };
                all.into_iter().map(|doubt| doubt.below(self.name())).collect()
            }

            /// Every reason why its lookup files cannot be used. Keys are relative to the entry.
            pub fn check_files(
                &self,
                files: &dyn $crate::transforms::enrich::watched::Files,
            ) -> Vec<$crate::config::component::Mistake> {
                let all = match self {
                    $(Self::$variant(settings) => $crate::transforms::Verb::check_files(settings, files),)*
                    Self::If(settings) => return settings.check_files(files),
                };
                all.into_iter().map(|mistake| mistake.below(self.name())).collect()
            }

            /// Opens an instance on one shard.
            pub fn open(&self, opening: &mut $crate::transforms::Opening<'_>) -> Box<dyn $crate::transforms::Transform> {
                match self {
                    $(Self::$variant(settings) => $crate::transforms::Verb::open(settings, opening),)*
                    Self::If(settings) => settings.open(opening),
                }
            }

            /// Its lookup files.
            pub fn kept(&self) -> Vec<std::sync::Arc<dyn $crate::transforms::enrich::watched::Kept>> {
                match self {
                    $(Self::$variant(settings) => $crate::transforms::Verb::kept(settings),)*
                    Self::If(settings) => settings.kept(),
                }
            }

            fn read<'de, A: serde::de::MapAccess<'de>>(name: &str, map: &mut A) -> Result<Self, A::Error> {
                $(if name == <$settings as $crate::transforms::Verb>::NAME {
                    return map.next_value().map(Self::$variant);
                })*
                match name {
                    $crate::transforms::branch::Settings::NAME => {
                        $crate::transforms::branch::Settings::read(map).map(Self::If)
                    }
                    _ => Err(serde::de::Error::unknown_variant(name, Self::NAMES)),
                }
            }
        }

        impl<'de> serde::Deserialize<'de> for $table {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Form;
                impl<'de> serde::de::Visitor<'de> for Form {
                    type Value = $table;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a transform with its settings, such as {remove: [password]}")
                    }
                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<$table, A::Error> {
                        let Some(name) = map.next_key::<String>()? else {
                            return Err(serde::de::Error::invalid_value(
                                serde::de::Unexpected::Other("an empty map"),
                                &self,
                            ));
                        };
                        let step = $table::read(&name, &mut map)?;
                        // Refused as a key, so that the mistake is at this key.
                        map.next_key::<$crate::transforms::table::Second>()?;
                        Ok(step)
                    }
                }
                deserializer.deserialize_map(Form)
            }
        }

        impl schemars::JsonSchema for $table {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($table).into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let mut verbs: Vec<schemars::Schema> = vec![$({
                    let value = generator.subschema_for::<$settings>();
                    $crate::transforms::verb_schema(
                        <$settings as $crate::transforms::Verb>::NAME,
                        <$settings as $crate::transforms::Verb>::SUMMARY,
                        value,
                    )
                }),*];
                verbs.push(generator.subschema_for::<$crate::transforms::branch::Settings>());
                schemars::json_schema!({ "oneOf": verbs })
            }
        }
    };
}

/// The schema of an entry of `transforms`.
pub fn verb_schema(name: &str, summary: &str, value: schemars::Schema) -> schemars::Schema {
    let mut properties = serde_json::Map::new();
    properties.insert(name.to_owned(), value.to_value());
    schemars::json_schema!({
        "type": "object",
        "description": summary,
        "properties": properties,
        "required": [name],
        "additionalProperties": false
    })
}
