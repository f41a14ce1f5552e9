// A dRPC peer in Go, written from docs/wire/drpc.md alone: Go's own unixpacket sockets and protobuf encoder, so that
// what differs between languages shows. `main client PATH FRAMING` checks a server; `main serve PATH FRAMING` answers
// one call at a time, as DAOS's servers do.
package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"

	"google.golang.org/protobuf/encoding/protowire"
)

const (
	headerBytes = 24
	packetMax   = 131072
	chunkMax    = packetMax - headerBytes
	receiveMax  = 1 << 20
)

type call struct {
	module, method int32
	sequence       int64
	body           []byte
}

type response struct {
	sequence int64
	status   int32
	body     []byte
}

type peer struct {
	conn   *net.UnixConn
	legacy bool
}

func number(out []byte, field protowire.Number, value int64) []byte {
	if value == 0 {
		return out
	}
	out = protowire.AppendTag(out, field, protowire.VarintType)
	return protowire.AppendVarint(out, uint64(value))
}

func text(out []byte, field protowire.Number, value []byte) []byte {
	if len(value) == 0 {
		return out
	}
	out = protowire.AppendTag(out, field, protowire.BytesType)
	return protowire.AppendBytes(out, value)
}

func (c call) encode() []byte {
	out := number(nil, 1, int64(c.module))
	out = number(out, 2, int64(c.method))
	out = number(out, 3, c.sequence)
	return text(out, 4, c.body)
}

func (r response) encode() []byte {
	out := number(nil, 1, r.sequence)
	out = number(out, 2, int64(r.status))
	return text(out, 3, r.body)
}

// fields calls one of the two functions per field.
func fields(message []byte, varint func(protowire.Number, uint64), data func(protowire.Number, []byte)) error {
	for len(message) > 0 {
		field, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return protowire.ParseError(n)
		}
		message = message[n:]
		switch kind {
		case protowire.VarintType:
			value, n := protowire.ConsumeVarint(message)
			if n < 0 {
				return protowire.ParseError(n)
			}
			varint(field, value)
			message = message[n:]
		case protowire.BytesType:
			value, n := protowire.ConsumeBytes(message)
			if n < 0 {
				return protowire.ParseError(n)
			}
			data(field, value)
			message = message[n:]
		default:
			n := protowire.ConsumeFieldValue(field, kind, message)
			if n < 0 {
				return protowire.ParseError(n)
			}
			message = message[n:]
		}
	}
	return nil
}

func decodeCall(message []byte) (c call, err error) {
	err = fields(message, func(field protowire.Number, value uint64) {
		switch field {
		case 1:
			c.module = int32(value)
		case 2:
			c.method = int32(value)
		case 3:
			c.sequence = int64(value)
		}
	}, func(field protowire.Number, value []byte) {
		if field == 4 {
			c.body = value
		}
	})
	return c, err
}

func decodeResponse(message []byte) (r response, err error) {
	err = fields(message, func(field protowire.Number, value uint64) {
		switch field {
		case 1:
			r.sequence = int64(value)
		case 2:
			r.status = int32(value)
		}
	}, func(field protowire.Number, value []byte) {
		if field == 3 {
			r.body = value
		}
	})
	return r, err
}

func (p peer) send(message []byte) error {
	if p.legacy {
		_, err := p.conn.Write(message)
		return err
	}
	count := max(1, (len(message)+chunkMax-1)/chunkMax)
	for index := range count {
		data := message[index*chunkMax : min(len(message), (index+1)*chunkMax)]
		packet := binary.LittleEndian.AppendUint64(nil, uint64(len(message)))
		packet = binary.LittleEndian.AppendUint64(packet, uint64(len(data)))
		packet = binary.LittleEndian.AppendUint32(packet, uint32(index))
		packet = binary.LittleEndian.AppendUint32(packet, uint32(count))
		if _, err := p.conn.Write(append(packet, data...)); err != nil {
			return err
		}
	}
	return nil
}

func (p peer) receive() ([]byte, error) {
	buffer := make([]byte, receiveMax)
	var message []byte
	for {
		n, err := p.conn.Read(buffer)
		if err != nil {
			return nil, err
		}
		if p.legacy {
			return buffer[:n], nil
		}
		if n < headerBytes {
			return nil, fmt.Errorf("a packet of %d bytes", n)
		}
		message = append(message, buffer[headerBytes:n]...)
		index := binary.LittleEndian.Uint32(buffer[16:])
		if index+1 == binary.LittleEndian.Uint32(buffer[20:]) {
			if uint64(len(message)) != binary.LittleEndian.Uint64(buffer) {
				return nil, errors.New("a message of another length than it says")
			}
			return message, nil
		}
	}
}

func (p peer) call(c call) (response, error) {
	if err := p.send(c.encode()); err != nil {
		return response{}, err
	}
	message, err := p.receive()
	if err != nil {
		return response{}, err
	}
	return decodeResponse(message)
}

func dial(path string, legacy bool) peer {
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		fmt.Println("not ok - go client: connects:", err)
		os.Exit(1)
	}
	return peer{conn, legacy}
}

func hello(name string) []byte { return text(nil, 1, []byte(name)) }

func client(path, framing string) {
	legacy := framing == "legacy"
	p := dial(path, legacy)
	failed := false
	check := func(name string, c call, status int32, body []byte) {
		r, err := p.call(c)
		result := "ok"
		if err != nil || r.sequence != c.sequence || r.status != status || !bytes.Equal(r.body, body) {
			result, failed = "not ok", true
		}
		fmt.Printf("%s - go client %s: %s\n", result, framing, name)
		if result != "ok" {
			fmt.Printf("# got sequence %d status %d with %d bytes, error %v\n", r.sequence, r.status, len(r.body), err)
		}
	}
	large := make([]byte, 300000)
	for i := range large {
		large[i] = byte(i % 251)
	}
	if legacy {
		large = large[:100000]
	}
	check("hello", call{0, 0, 1, hello("Friend")}, 0, hello("Hello Friend"))
	check("a large body", call{77, 1, 2, large}, 0, large)
	check("an unknown module", call{9, 1, 3, nil}, 3, nil)
	check("an unknown method", call{77, 99, 4, nil}, 4, nil)
	check("a body that cannot be read", call{0, 0, 5, []byte{0xff}}, 6, nil)
	check("a handler that fails", call{77, 2, 6, nil}, 2, nil)
	check("the largest sequence", call{77, 1, math.MaxInt64, []byte("x")}, 0, []byte("x"))
	check("the smallest sequence", call{77, 1, math.MinInt64, []byte("x")}, 0, []byte("x"))
	if err := p.send([]byte{0xff, 0xff}); err != nil {
		failed = true
	}
	message, err := p.receive()
	r, _ := decodeResponse(message)
	if err != nil || r.sequence != -1 || r.status != 5 {
		failed = true
		fmt.Printf("not ok - go client %s: no call: %v %v\n", framing, r, err)
	} else {
		fmt.Printf("ok - go client %s: no call is answered -1 and status 5\n", framing)
	}
	check("the connection goes on after it", call{77, 1, 7, []byte("y")}, 0, []byte("y"))
	if failed {
		os.Exit(1)
	}
}

func answer(c call) response {
	switch {
	case c.module == 0 && c.method == 0:
		name := []byte(nil)
		if fields(c.body, func(protowire.Number, uint64) {}, func(_ protowire.Number, value []byte) { name = value }) != nil {
			return response{c.sequence, 6, nil}
		}
		return response{c.sequence, 0, hello("Hello " + string(name))}
	case c.module == 0:
		return response{c.sequence, 4, nil}
	case c.module == 77 && c.method == 1:
		return response{c.sequence, 0, c.body}
	case c.module == 77:
		return response{c.sequence, 4, nil}
	default:
		return response{c.sequence, 3, nil}
	}
}

func serve(path, framing string) {
	listener, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for {
		conn, err := listener.AcceptUnix()
		if err != nil {
			return
		}
		go func() {
			p := peer{conn, framing == "legacy"}
			defer conn.Close()
			for {
				message, err := p.receive()
				if err != nil {
					if !errors.Is(err, io.EOF) {
						fmt.Fprintln(os.Stderr, err)
					}
					return
				}
				r := response{-1, 5, nil}
				if c, err := decodeCall(message); err == nil {
					r = answer(c)
				}
				if p.send(r.encode()) != nil {
					return
				}
			}
		}()
	}
}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: main client|serve PATH chunked|legacy")
		os.Exit(2)
	}
	if os.Args[1] == "serve" {
		serve(os.Args[2], os.Args[3])
	} else {
		client(os.Args[2], os.Args[3])
	}
}
