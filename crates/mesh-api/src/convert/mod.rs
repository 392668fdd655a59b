//! Both directions between configuration values and messages.
//!
//! A [`Field`] pairs a type of the model with the type that carries it; structs whose field names agree are paired by the
//! `message!` macro, so that a field forgotten on one side does not compile. Sums are written out.

mod address;
mod authz;
mod endpoint;
mod field;
mod inbound;
mod matching;
mod route;
mod service;
mod settings;

use crate::Invalid;

/// A value of the model that has a message of its own.
pub trait Wire: Sized {
    /// Its message.
    type Proto: prost::Message + prost::Name + Default;

    /// The message of a value.
    fn to_wire(&self) -> Self::Proto;

    /// The value of a message.
    ///
    /// # Errors
    /// The first field that is missing, out of its bounds, or not one of its enum's values.
    fn from_wire(proto: Self::Proto) -> Result<Self, Invalid>;
}

/// A value of the model as a field of type `P`.
pub(crate) trait Field<P>: Sized {
    fn put(&self) -> P;
    fn take(wire: P) -> Result<Self, Invalid>;
}

/// Pairs a struct with the message of the same field names. With `check`, a function sees the value last.
macro_rules! message {
    ($name:ident { $($field:ident),* $(,)? } $(check $check:expr)?) => {
        impl crate::Wire for mesh_core::config::$name {
            type Proto = crate::proto::mesh::v1::$name;

            fn to_wire(&self) -> Self::Proto {
                Self::Proto { $($field: crate::convert::Field::put(&self.$field)),* }
            }

            fn from_wire(proto: Self::Proto) -> Result<Self, crate::Invalid> {
                let value = Self {
                    $($field: crate::convert::Field::take(proto.$field)
                        .map_err(|error: crate::Invalid| error.within(stringify!($field)))?),*
                };
                $({
                    let check: fn(&Self) -> Result<(), crate::Invalid> = $check;
                    check(&value)?;
                })?
                Ok(value)
            }
        }
        crate::convert::message_fields!($name);
    };
}
pub(crate) use message;

/// Lets a type that is [`Wire`] stand in a message: in lists and maps, and required alone.
macro_rules! message_fields {
    ($name:ident) => {
        impl crate::convert::Field<crate::proto::mesh::v1::$name> for mesh_core::config::$name {
            fn put(&self) -> crate::proto::mesh::v1::$name {
                crate::Wire::to_wire(self)
            }

            fn take(wire: crate::proto::mesh::v1::$name) -> Result<Self, crate::Invalid> {
                crate::Wire::from_wire(wire)
            }
        }

        impl crate::convert::Field<Option<crate::proto::mesh::v1::$name>> for mesh_core::config::$name {
            fn put(&self) -> Option<crate::proto::mesh::v1::$name> {
                Some(crate::Wire::to_wire(self))
            }

            fn take(wire: Option<crate::proto::mesh::v1::$name>) -> Result<Self, crate::Invalid> {
                crate::Wire::from_wire(wire.ok_or_else(|| crate::Invalid::new("is missing"))?)
            }
        }
    };
}
pub(crate) use message_fields;

/// Pairs an enum with the generated one; 0 and numbers that are not named are refused.
macro_rules! enumeration {
    ($name:ident { $($variant:ident),* $(,)? }) => {
        impl crate::convert::Field<i32> for mesh_core::config::$name {
            fn put(&self) -> i32 {
                match self {
                    $(Self::$variant => crate::proto::mesh::v1::$name::$variant as i32),*
                }
            }

            fn take(wire: i32) -> Result<Self, crate::Invalid> {
                match crate::proto::mesh::v1::$name::try_from(wire) {
                    $(Ok(crate::proto::mesh::v1::$name::$variant) => Ok(Self::$variant),)*
                    _ => Err(crate::Invalid::new(format!("{wire} is not a {}", stringify!($name)))),
                }
            }
        }
    };
}
pub(crate) use enumeration;

/// Pairs a sum whose variants hold one value each (`=>`) or none (`;`) with a message of one `oneof kind`.
macro_rules! sum {
    ($name:ident in $module:ident { $($variant:ident),* $(,)? ; $($empty:ident),* $(,)? }) => {
        impl crate::Wire for mesh_core::config::$name {
            type Proto = crate::proto::mesh::v1::$name;

            fn to_wire(&self) -> Self::Proto {
                use crate::proto::mesh::v1::$module::Kind;
                let kind = match self {
                    $(Self::$variant(value) => Kind::$variant(crate::convert::Field::put(value)),)*
                    $(Self::$empty => Kind::$empty(crate::proto::mesh::v1::Empty {}),)*
                };
                Self::Proto { kind: Some(kind) }
            }

            fn from_wire(proto: Self::Proto) -> Result<Self, crate::Invalid> {
                use crate::proto::mesh::v1::$module::Kind;
                match proto.kind {
                    $(Some(Kind::$variant(wire)) => crate::convert::Field::take(wire).map(Self::$variant),)*
                    $(Some(Kind::$empty(crate::proto::mesh::v1::Empty {})) => Ok(Self::$empty),)*
                    None => Err(crate::Invalid::new(concat!("is no ", stringify!($name)))),
                }
            }
        }
        crate::convert::message_fields!($name);
    };
}
pub(crate) use sum;
