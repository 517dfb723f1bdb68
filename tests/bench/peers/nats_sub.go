// A subscriber with nats.go and nothing else: nats_sub PORT SUBJECT COUNT. It writes each payload and a newline.
package main

import (
	"bufio"
	"os"
	"strconv"

	"github.com/nats-io/nats.go"
)

func main() {
	count, err := strconv.Atoi(os.Args[3])
	if err != nil {
		panic(err)
	}
	connection, err := nats.Connect("nats://127.0.0.1:" + os.Args[1])
	if err != nil {
		panic(err)
	}
	out := bufio.NewWriterSize(os.Stdout, 1<<16)
	done := make(chan struct{})
	subscription, err := connection.Subscribe(os.Args[2], func(message *nats.Msg) {
		out.Write(message.Data)
		out.WriteByte('\n')
		if count--; count == 0 {
			close(done)
		}
	})
	if err != nil {
		panic(err)
	}
	// Without limits: at the default ones it drops what it can't keep up with.
	if err := subscription.SetPendingLimits(-1, -1); err != nil {
		panic(err)
	}
	<-done
	out.Flush()
}
