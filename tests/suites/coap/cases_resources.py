"""Methods, conditions, formats and discovery (RFC 7252 sections 5.8 to 5.10, RFC 6690, 7967, 8132)."""

from cases_messages import Case
from client import (
    ACCEPT, CON, CONTENT_FORMAT, DELETE, EMPTY, ETAG, FETCH, GET, IF_MATCH, IF_NONE_MATCH, IPATCH, JSON, JSON_PATCH,
    LINK_FORMAT, LOCATION_PATH, MERGE_PATCH, NO_RESPONSE, NON, OCTETS, PATCH, POST, PUT, TEXT, URI_PATH, URI_QUERY, uint,
)


class Methods(Case):
    def test_put_makes_and_changes_and_delete_removes(self):
        """5.8: 2.01, 2.04, 2.02; what is not there is deleted as well."""
        client = self.client()
        where = "suite/put"
        client.ask(DELETE, where)
        self.assertEqual(client.put(where, "one").status, "2.01")
        self.assertEqual(client.put(where, "two").status, "2.04")
        self.assertEqual(client.get(where).payload, b"two")
        self.assertEqual(client.ask(DELETE, where).status, "2.02")
        self.assertEqual(client.get(where).status, "4.04")
        self.assertEqual(client.ask(DELETE, where).status, "2.02")

    def test_an_empty_body_is_one(self):
        client = self.client()
        where = self.resource("")
        answer = client.get(where)
        self.assertEqual((answer.status, answer.payload), ("2.05", b""), str(answer))

    def test_post_to_a_collection_makes_a_child_and_says_where(self):
        """5.8.2: 2.01 with Location-Path."""
        client = self.client()
        self.resource()
        places = set()
        for body in ("one", "two"):
            answer = client.ask(POST, "suite", payload=body)
            self.assertEqual(answer.status, "2.01", str(answer))
            segments = answer.all(LOCATION_PATH)
            self.assertEqual(segments[0], b"suite")
            places.add(tuple(segments))
            got = client.get("", [(URI_PATH, segment) for segment in segments])
            self.assertEqual(got.payload.decode(), body)
        self.assertEqual(len(places), 2)

    def test_post_to_a_resource_changes_it(self):
        client = self.client()
        where = self.resource("before")
        self.assertEqual(client.ask(POST, where, payload="after").status, "2.04")
        self.assertEqual(client.get(where).payload, b"after")

    def test_patches_of_json(self):
        """RFC 8132: JSON Patch and JSON Merge Patch; 4.15, 4.00, 4.09 and 4.04."""
        client = self.client()
        where = self.resource('{"a":1,"b":2}', [(CONTENT_FORMAT, uint(JSON))])
        merge, patch = [(CONTENT_FORMAT, uint(MERGE_PATCH))], [(CONTENT_FORMAT, uint(JSON_PATCH))]
        self.assertEqual(client.ask(PATCH, where, merge, '{"b":null,"c":[3]}').status, "2.04")
        self.assertEqual(client.ask(IPATCH, where, patch, '[{"op":"add","path":"/c/-","value":4}]').status, "2.04")
        answer = client.get(where)
        self.assertEqual((answer.payload, answer.number(CONTENT_FORMAT)), (b'{"a":1,"c":[3,4]}', JSON))
        self.assertEqual(client.ask(PATCH, where, [(CONTENT_FORMAT, uint(TEXT))], "x").status, "4.15")
        self.assertEqual(client.ask(PATCH, where, (), "x").status, "4.15")
        self.assertEqual(client.ask(PATCH, where, merge, "{").status, "4.00")
        self.assertEqual(client.ask(PATCH, where, patch, '[{"op":"remove","path":"/x"}]').status, "4.09")
        self.assertEqual(client.ask(PATCH, "suite/not/there", merge, "{}").status, "4.04")

    def test_a_fetch_in_a_format_that_nobody_knows(self):
        """RFC 8132 section 2.3: 4.15, or 4.05 from whom does not know the method."""
        answer = self.client().ask(FETCH, self.resource(), [(CONTENT_FORMAT, uint(OCTETS))], "x")
        self.assertIn(answer.status, ("4.15", "4.05"), str(answer))


class Conditions(Case):
    def test_an_etag_that_is_known_gets_203(self):
        """5.10.6.2: without a payload."""
        client = self.client()
        where = self.resource("x")
        etag = client.get(where).option(ETAG)
        self.assertTrue(1 <= len(etag) <= 8)
        answer = client.get(where, [(ETAG, b"other"), (ETAG, etag)])
        self.assertEqual((answer.status, answer.payload, answer.option(ETAG)), ("2.03", b"", etag), str(answer))
        client.put(where, "y")
        answer = client.get(where, [(ETAG, etag)])
        self.assertEqual((answer.status, answer.payload), ("2.05", b"y"), str(answer))
        self.assertNotEqual(answer.option(ETAG), etag)

    def test_if_match(self):
        """5.10.8.1: an ETag, or that there is something at all."""
        client = self.client()
        where = self.resource("x")
        etag = client.get(where).option(ETAG)
        self.assertEqual(client.put(where, "y", [(IF_MATCH, b"other")]).status, "4.12")
        self.assertEqual(client.get(where).payload, b"x")
        self.assertEqual(client.put(where, "y", [(IF_MATCH, b"other"), (IF_MATCH, etag)]).status, "2.04")
        self.assertEqual(client.put(where, "z", [(IF_MATCH, etag)]).status, "4.12")
        self.assertEqual(client.put(where, "z", [(IF_MATCH, b"")]).status, "2.04")
        self.assertEqual(client.put("suite/nothing", "z", [(IF_MATCH, b"")]).status, "4.12")
        self.assertEqual(client.get("suite/nothing").status, "4.04")

    def test_if_none_match(self):
        """5.10.8.2."""
        client = self.client()
        where = self.resource("x")
        self.assertEqual(client.put(where, "y", [(IF_NONE_MATCH, b"")]).status, "4.12")
        client.ask(DELETE, where)
        self.assertEqual(client.put(where, "y", [(IF_NONE_MATCH, b"")]).status, "2.01")

    def test_what_was_put_has_its_format_and_no_other(self):
        """5.10.4: 4.06."""
        client = self.client()
        where = self.resource("{}", [(CONTENT_FORMAT, uint(JSON))])
        answer = client.get(where, [(ACCEPT, uint(JSON))])
        self.assertEqual((answer.status, answer.number(CONTENT_FORMAT)), ("2.05", JSON), str(answer))
        self.assertEqual(client.get(where, [(ACCEPT, uint(TEXT))]).status, "4.06")
        self.assertEqual(client.get(where, [(ACCEPT, uint(65000))]).status, "4.06")

    def test_a_client_may_want_no_response(self):
        """RFC 7967: a confirmable request is acknowledged, one that is not gets nothing."""
        client = self.client()
        where = self.resource("x")
        message = client.message(PUT, where, [(NO_RESPONSE, uint(26))], "y")
        client.send(message)
        answer = client.receive()
        self.assertEqual((answer.code, answer.id, answer.token), (EMPTY, message.id, b""), str(answer))
        client.send(client.message(PUT, where, [(NO_RESPONSE, uint(26))], "z", kind=NON))
        client.is_alive()
        self.assertEqual(client.get(where).payload, b"z")
        self.assertEqual(client.ask(GET, "suite/nothing", [(NO_RESPONSE, uint(2))]).status, "4.04")
        self.assertEqual(message.type, CON)


class Discovery(Case):
    def test_the_list_has_what_is_there(self):
        """RFC 6690 section 4."""
        client = self.client()
        where = self.resource("{}", [(CONTENT_FORMAT, uint(JSON))])
        answer = client.get(".well-known/core", [(URI_QUERY, f"href=/{where}".encode())])
        self.assertEqual((answer.status, answer.number(CONTENT_FORMAT)), ("2.05", LINK_FORMAT), str(answer))
        text = answer.payload.decode()
        self.assertTrue(text.startswith(f"</{where}>"), text)
        self.assertTrue("ct=50" in text or 'ct="50"' in text, text)

    def test_filters(self):
        """RFC 6690 section 4.1."""
        client = self.client()
        where = self.resource("x")
        for query, found in ((f"href=/{where[:-3]}*", True), ("href=/nowhere", False), ("rt=nothing", False)):
            answer = client.get(".well-known/core", [(URI_QUERY, query.encode())])
            self.assertEqual(answer.status, "2.05", str(answer))
            self.assertEqual(f"</{where}>" in answer.payload.decode(), found, query)

    def test_the_list_can_only_be_read(self):
        client = self.client()
        for method in (PUT, POST, DELETE):
            self.assertEqual(client.ask(method, ".well-known/core").status, "4.05")

    def test_the_list_is_in_link_format_alone(self):
        answer = self.client().get(".well-known/core", [(ACCEPT, uint(JSON))])
        self.assertEqual(answer.status, "4.06", str(answer))
