//! KINDS: custom resources, labels, annotations, well-known names, YAML with positions. Types only.
