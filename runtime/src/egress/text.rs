//! Texts from outside: read into types, written out of them, and shown in messages.

/// Lets serde read and write a type as the text that it parses from and displays.
macro_rules! as_text {
    ($($name:ident: $error:ty),*) => {$(
        impl TryFrom<String> for $name {
            type Error = $error;

            fn try_from(text: String) -> Result<Self, $error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    )*};
}

pub(super) use as_text;

/// Cuts a text for a message, and escapes what only looks like ASCII or like nothing.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_default).collect()
}

/// Returns whether a byte may stand in a token: a method, a header's name, half a media type.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
