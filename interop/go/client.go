// The client: each check is one line, `ok - ` or `not ok - `.
package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/edwarnicke/grpcfd"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// The messages of nigh.test.v1 that are used here have the wire form of these wrappers: one field, number one.
const (
	echo     = "/nigh.test.v1.Files/Swap"
	download = "/nigh.test.v1.Files/Many"
	talk     = "/nigh.test.v1.Files/Chat"
)

func client(socket string, tls []string) error {
	creds, kind := insecure.NewCredentials(), "plain"
	if len(tls) == 1 {
		text, err := os.ReadFile(tls[0])
		if err != nil {
			return err
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(text)
		creds, kind = credentials.NewClientTLSFromCert(pool, "localhost"), "tls"
	}
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(grpcfd.TransportCredentials(creds)))
	if err != nil {
		return err
	}
	defer conn.Close()
	dir, err := os.MkdirTemp("", "nigh-interop-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	check := func(name string, err error) {
		if err != nil {
			fmt.Printf("not ok - go client, %s: %s: %v\n", kind, name, err)
		} else {
			fmt.Printf("ok - go client, %s: %s\n", kind, name)
		}
	}
	for _, count := range []int{1, 60} {
		check(fmt.Sprintf("unary with %d descriptors both ways", count), unary(conn, dir, count, false))
	}
	check("unary with a descriptor sent by name", unary(conn, dir, 1, true))
	for _, count := range []int{1, 60} {
		check(fmt.Sprintf("server stream of %d descriptors", count), stream(conn, count))
	}
	for _, count := range []int{1, 60} {
		check(fmt.Sprintf("both streams with %d descriptors both ways", count), chat(conn, dir, count))
	}
	check("unary after all of them", unary(conn, dir, 2, false))
	return nil
}

var round int

func unary(conn *grpc.ClientConn, dir string, count int, byName bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	perCall := grpcfd.PerRPCCredentials(nil)
	transceiver, _ := grpcfd.FromPerRPCCredentials(perCall)
	round++
	var urls, names []string
	for number := range count {
		name := fmt.Sprintf("go %d %d", round, number)
		file, err := namedFile(dir, name)
		if err != nil {
			return err
		}
		defer file.Close()
		url, err := urlOf(file)
		if err != nil {
			return err
		}
		if byName {
			transceiver.SendFilename(file.Name())
		} else {
			transceiver.SendFile(file)
		}
		urls, names = append(urls, url), append(names, name)
	}
	request := wrapperspb.Bytes([]byte(strings.Join(urls, "\n")))
	reply := new(wrapperspb.BytesValue)
	if err := conn.Invoke(ctx, echo, request, reply, grpc.PerRPCCredentials(perCall)); err != nil {
		return err
	}
	contents, err := receive(ctx, transceiver, reply.Value)
	if err != nil {
		return err
	}
	if len(contents) != count {
		return fmt.Errorf("%d files came back, not %d", len(contents), count)
	}
	for number, content := range contents {
		if content != "echo "+names[number] {
			return fmt.Errorf("file %d says %q", number, content)
		}
	}
	return nil
}

// chat sends a new file in the middle of the stream, with each message, and reads what comes back before the next.
func chat(conn *grpc.ClientConn, dir string, count int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	perCall := grpcfd.PerRPCCredentials(nil)
	transceiver, _ := grpcfd.FromPerRPCCredentials(perCall)
	description := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	messages, err := conn.NewStream(ctx, description, talk, grpc.PerRPCCredentials(perCall))
	if err != nil {
		return err
	}
	answer := new(wrapperspb.BytesValue)
	for number := range count {
		round++
		name := fmt.Sprintf("go chat %d %d", round, number)
		file, err := namedFile(dir, name)
		if err != nil {
			return err
		}
		defer file.Close()
		url, err := urlOf(file)
		if err != nil {
			return err
		}
		transceiver.SendFile(file)
		// The library queues the file in a goroutine of its own, which the message may overtake: what is written after it
		// carries it, so empty ones follow until the answer is there.
		if err := messages.SendMsg(wrapperspb.Bytes([]byte(url))); err != nil {
			return err
		}
		answered := make(chan error, 1)
		go func() { answered <- messages.RecvMsg(answer) }()
		empty := 0
		for waiting := true; waiting; {
			empty++
			if err := messages.SendMsg(wrapperspb.Bytes(nil)); err != nil {
				return err
			}
			select {
			case err := <-answered:
				if err != nil {
					return err
				}
				waiting = false
			case <-time.After(20 * time.Millisecond):
			}
		}
		contents, err := receive(ctx, transceiver, answer.Value)
		if err != nil {
			return err
		}
		if len(contents) != 1 || contents[0] != "echo "+name {
			return fmt.Errorf("message %d brought %q", number, contents)
		}
		for range empty {
			if err := messages.RecvMsg(answer); err != nil {
				return err
			}
		}
	}
	return messages.CloseSend()
}

func stream(conn *grpc.ClientConn, count int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	perCall := grpcfd.PerRPCCredentials(nil)
	transceiver, _ := grpcfd.FromPerRPCCredentials(perCall)
	messages, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, download, grpc.PerRPCCredentials(perCall))
	if err != nil {
		return err
	}
	if err := messages.SendMsg(wrapperspb.UInt32(uint32(count))); err != nil {
		return err
	}
	if err := messages.CloseSend(); err != nil {
		return err
	}
	for number := range count {
		message := new(wrapperspb.BytesValue)
		if err := messages.RecvMsg(message); err != nil {
			return err
		}
		contents, err := receive(ctx, transceiver, message.Value)
		if err != nil {
			return err
		}
		if len(contents) != 1 || contents[0] != fmt.Sprintf("download %d", number) {
			return fmt.Errorf("message %d brought %q", number, contents)
		}
	}
	return nil
}
