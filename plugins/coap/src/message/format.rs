//! Content formats by name (the registry of RFC 7252 section 12.3).

/// Number, media type as the registry has it, and what people write for short.
const FORMATS: &[(u16, &str, &str)] = &[
    (0, "text/plain; charset=utf-8", "text"),
    (16, "application/cose; cose-type=\"cose-encrypt0\"", ""),
    (17, "application/cose; cose-type=\"cose-mac0\"", ""),
    (18, "application/cose; cose-type=\"cose-sign1\"", ""),
    (19, "application/ace+cbor", ""),
    (21, "image/gif", "gif"),
    (22, "image/jpeg", "jpeg"),
    (23, "image/png", "png"),
    (40, "application/link-format", "link-format"),
    (41, "application/xml", "xml"),
    (42, "application/octet-stream", "octet-stream"),
    (47, "application/exi", "exi"),
    (50, "application/json", "json"),
    (51, "application/json-patch+json", ""),
    (52, "application/merge-patch+json", ""),
    (60, "application/cbor", "cbor"),
    (61, "application/cwt", "cwt"),
    (62, "application/multipart-core", ""),
    (63, "application/cbor-seq", ""),
    (96, "application/cose; cose-type=\"cose-encrypt\"", ""),
    (97, "application/cose; cose-type=\"cose-mac\"", ""),
    (98, "application/cose; cose-type=\"cose-sign\"", ""),
    (101, "application/cose-key", ""),
    (102, "application/cose-key-set", ""),
    (110, "application/senml+json", "senml-json"),
    (111, "application/sensml+json", ""),
    (112, "application/senml+cbor", "senml-cbor"),
    (113, "application/sensml+cbor", ""),
    (114, "application/senml-exi", ""),
    (115, "application/sensml-exi", ""),
    (140, "application/yang-data+cbor; id=sid", ""),
    (256, "application/coap-group+json", ""),
    (257, "application/concise-problem-details+cbor", ""),
    (258, "application/swid+cbor", ""),
    (271, "application/dots+cbor", ""),
    (272, "application/missing-blocks+cbor-seq", ""),
    (280, "application/pkcs7-mime; smime-type=server-generated-key", ""),
    (281, "application/pkcs7-mime; smime-type=certs-only", ""),
    (284, "application/pkcs8", ""),
    (285, "application/csrattrs", ""),
    (286, "application/pkcs10", ""),
    (287, "application/pkix-cert", ""),
    (290, "application/aif+cbor", ""),
    (291, "application/aif+json", ""),
    (310, "application/senml+xml", "senml-xml"),
    (311, "application/sensml+xml", ""),
    (320, "application/senml-etch+json", ""),
    (322, "application/senml-etch+cbor", ""),
    (340, "application/yang-data+cbor", ""),
    (341, "application/yang-data+cbor; id=name", ""),
    (432, "application/td+json", ""),
    (836, "application/voucher+cose", ""),
    (10000, "application/vnd.ocf+cbor", ""),
    (10001, "application/oscore", ""),
    (10002, "application/javascript", ""),
    (11050, "application/json; deflate", ""),
    (11060, "application/cbor; deflate", ""),
    (11542, "application/vnd.oma.lwm2m+tlv", "lwm2m-tlv"),
    (11543, "application/vnd.oma.lwm2m+json", "lwm2m-json"),
    (11544, "application/vnd.oma.lwm2m+cbor", "lwm2m-cbor"),
    (20000, "text/css", "css"),
    (30000, "image/svg+xml", "svg"),
];

/// The media type of a content format, if it is registered.
pub fn content_format_name(number: u16) -> Option<&'static str> {
    FORMATS.binary_search_by_key(&number, |(number, ..)| *number).ok().map(|index| FORMATS[index].1)
}

/// Reads a content format: its number, its media type (`application/json`, parameters may be left out where only one is
/// registered without them) or a short form (`json`).
pub fn content_format_number(text: &str) -> Option<u16> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let plain = |text: &str| text.to_ascii_lowercase().replace([' ', '"'], "");
    let wanted = plain(text);
    let exact = FORMATS.iter().find(|(_, name, short)| plain(name) == wanted || *short == wanted);
    let bare =
        || FORMATS.iter().find(|(_, name, _)| wanted == "text/plain" && name.starts_with("text/plain"));
    (!wanted.is_empty()).then(|| exact.or_else(bare).map(|(number, ..)| *number))?
}
