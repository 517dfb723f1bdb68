"""Queues in memory by Qpid Proton: python proton_broker.py PORT [CERT KEY [CLIENT_CA]]

An address is a queue, made when somebody names it. What a receiver gives back goes to its old place again.
"""

import bisect
import collections
import sys

from proton import Delivery, Endpoint, SSLDomain
from proton.handlers import MessagingHandler
from proton.reactor import Container


class Queue:
    def __init__(self):
        # In order, each with its number.
        self.messages = []
        self.count = 0
        self.receivers = []

    def put(self, message):
        self.count += 1
        self.messages.append((self.count, message))

    def dispatch(self):
        while self.messages:
            ready = [link for link in self.receivers if link.credit]
            if not ready:
                return
            link = ready[0]
            numbered = self.messages.pop(0)
            delivery = link.send(numbered[1])
            link.unshown[delivery.tag] = numbered
            # The one that was served last waits longest.
            self.receivers.remove(link)
            self.receivers.append(link)


class Broker(MessagingHandler):
    def __init__(self, port, cert=None, key=None, client_ca=None):
        # Credit is given by hand, and outcomes are ours to decide.
        super().__init__(auto_settle=False, prefetch=500)
        scheme = "amqps" if cert else "amqp"
        self.address = f"{scheme}://127.0.0.1:{port}"
        self.identity = (cert, key)
        self.client_ca = client_ca
        self.queues = collections.defaultdict(Queue)

    def on_start(self, event):
        if self.identity[0]:
            domain = event.container.ssl.server
            domain.set_credentials(*self.identity, None)
            if self.client_ca:
                domain.set_trusted_ca_db(self.client_ca)
                domain.set_peer_authentication(SSLDomain.VERIFY_PEER, self.client_ca)
        self.acceptor = event.container.listen(self.address)
        print("listening", flush=True)

    def on_link_opening(self, event):
        link = event.link
        if link.is_sender:
            link.source.address = link.remote_source.address
            link.unshown = collections.OrderedDict()
            self.queues[link.source.address].receivers.append(link)
        else:
            link.target.address = link.remote_target.address

    def on_sendable(self, event):
        self.queues[event.link.source.address].dispatch()

    def on_message(self, event):
        queue = self.queues[event.link.target.address]
        queue.put(event.message)
        queue.dispatch()

    def on_settled(self, event):
        link = event.link
        numbered = link.unshown.pop(event.delivery.tag, None) if link.is_sender else None
        if numbered is not None and event.delivery.remote_state in (Delivery.RELEASED, Delivery.MODIFIED):
            self.give_back(link, [numbered])
        event.delivery.settle()

    def give_back(self, link, messages):
        queue = self.queues[link.source.address]
        for numbered in messages:
            bisect.insort(queue.messages, numbered, key=lambda one: one[0])
        queue.dispatch()

    def gone(self, link):
        queue = self.queues.get(link.source.address) if link.is_sender else None
        if queue is not None and link in queue.receivers:
            queue.receivers.remove(link)
            self.give_back(link, list(link.unshown.values()))
            link.unshown.clear()

    def on_link_closing(self, event):
        print("link closed", flush=True)
        self.gone(event.link)

    def on_connection_closing(self, event):
        print("connection closed", flush=True)
        self.all_gone(event.connection)

    def on_disconnected(self, event):
        print("disconnected", flush=True)
        self.all_gone(event.connection)

    def all_gone(self, connection):
        link = connection.link_head(Endpoint.REMOTE_ACTIVE)
        while link is not None:
            self.gone(link)
            link = link.next(Endpoint.REMOTE_ACTIVE)


Container(Broker(*sys.argv[1:])).run()
