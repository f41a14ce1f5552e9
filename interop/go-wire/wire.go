// The nigh wire from docs/wire/nigh.md alone: numbers, fields, frames, greeting. Comments cite its clauses.
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Clause 2.2.
var magic = []byte{0x00, 0x6e, 0x69, 0x67, 0x68, 0x0d, 0x0a, 0x1a}

// Clause 3.3.
const (
	kindHeaders  = 1
	kindData     = 2
	kindTrailers = 3
	kindCancel   = 4
	kindWindow   = 5
	kindGoAway   = 6
	kindPing     = 7
	kindPong     = 8
)

// Clause 3.5.
const (
	flagEnd   = 0x01
	flagPlain = 0x02
)

// Clause 7.3, from 1.
var names = []string{
	"content-type", "te", "user-agent", "grpc-timeout", "grpc-encoding", "grpc-accept-encoding", "grpc-status",
	"grpc-message", "grpc-status-details-bin", "authorization", "accept", "content-length", "date", "traceparent",
	"tracestate", "baggage",
}

// A greeting, clause 2.3.
type greeting struct {
	version, length                                                                           uint16
	features, frameBytes, headerBytes, streamWindow, connectionWindow, callsAtOnce, pathsKept uint32
}

func (g greeting) encode() []byte {
	out := append([]byte{}, magic...)
	out = binary.LittleEndian.AppendUint16(out, g.version)
	out = binary.LittleEndian.AppendUint16(out, 40)
	for _, number := range []uint32{g.features, g.frameBytes, g.headerBytes, g.streamWindow, g.connectionWindow, g.callsAtOnce, g.pathsKept} {
		out = binary.LittleEndian.AppendUint32(out, number)
	}
	return out
}

func readGreeting(from io.Reader) (g greeting, err error) {
	head := make([]byte, 12)
	if _, err = io.ReadFull(from, head); err != nil {
		return g, err
	}
	if string(head[:8]) != string(magic) {
		return g, errors.New("the answer is no greeting")
	}
	g.version = binary.LittleEndian.Uint16(head[8:])
	g.length = binary.LittleEndian.Uint16(head[10:])
	if g.length < 40 || g.length > 1024 {
		return g, fmt.Errorf("a greeting of %d bytes", g.length)
	}
	rest := make([]byte, g.length-12)
	if _, err = io.ReadFull(from, rest); err != nil {
		return g, err
	}
	for index, field := range []*uint32{&g.features, &g.frameBytes, &g.headerBytes, &g.streamWindow, &g.connectionWindow, &g.callsAtOnce, &g.pathsKept} {
		*field = binary.LittleEndian.Uint32(rest[index*4:])
	}
	return g, nil
}

// A frame, clause 3.1.
type frame struct {
	stream      uint32
	kind, flags byte
	content     []byte
}

func (f frame) encode() []byte {
	out := binary.LittleEndian.AppendUint32(nil, uint32(len(f.content)))
	out = binary.LittleEndian.AppendUint32(out, f.stream)
	out = append(out, f.kind, f.flags, 0, 0)
	return append(out, f.content...)
}

func readFrame(from io.Reader, longest uint32) (f frame, err error) {
	var head [12]byte
	if _, err = io.ReadFull(from, head[:]); err != nil {
		return f, err
	}
	length := binary.LittleEndian.Uint32(head[:])
	f.stream = binary.LittleEndian.Uint32(head[4:])
	f.kind, f.flags = head[8], head[9]
	if length > longest || head[10] != 0 || head[11] != 0 {
		return f, fmt.Errorf("frame of kind %d with %d bytes and descriptors %v", f.kind, length, head[10:])
	}
	f.content = make([]byte, length)
	_, err = io.ReadFull(from, f.content)
	return f, err
}

// Clause 7.1.
func appendNumber(out []byte, number uint32) []byte {
	for number >= 0x80 {
		out = append(out, byte(number)|0x80)
		number >>= 7
	}
	return append(out, byte(number))
}

// Clause 7.2.
func appendBytes(out []byte, bytes string) []byte {
	return append(appendNumber(out, uint32(len(bytes))), bytes...)
}

// What is left of a frame's content.
type reader struct{ rest []byte }

var errShort = errors.New("a value reaches beyond its frame")

func (r *reader) number() (uint32, error) {
	value := uint64(0)
	for shift := 0; shift < 35; shift += 7 {
		if len(r.rest) == 0 {
			return 0, errShort
		}
		next := r.rest[0]
		r.rest = r.rest[1:]
		value |= uint64(next&0x7f) << shift
		if next&0x80 == 0 {
			if value > 0xffffffff {
				break
			}
			return uint32(value), nil
		}
	}
	return 0, errors.New("a number of more than 32 bits")
}

func (r *reader) bytes() (string, error) {
	length, err := r.number()
	if err != nil {
		return "", err
	}
	if uint32(len(r.rest)) < length {
		return "", errShort
	}
	value := string(r.rest[:length])
	r.rest = r.rest[length:]
	return value, nil
}

// A field and its value, in order.
type field struct{ name, value string }

func appendFields(out []byte, fields []field) []byte {
next:
	for _, f := range fields {
		for index, name := range names {
			if name == f.name {
				out = appendBytes(appendNumber(out, uint32(index+1)), f.value)
				continue next
			}
		}
		out = appendBytes(appendBytes(append(out, 0), f.name), f.value)
	}
	return out
}

func (r *reader) fields() (fields []field, err error) {
	for len(r.rest) > 0 {
		number, err := r.number()
		if err != nil {
			return nil, err
		}
		var f field
		switch {
		case number == 0:
			if f.name, err = r.bytes(); err != nil {
				return nil, err
			}
		case int(number) <= len(names):
			f.name = names[number-1]
		default:
			return nil, fmt.Errorf("name number %d", number)
		}
		if f.value, err = r.bytes(); err != nil {
			return nil, err
		}
		fields = append(fields, f)
	}
	return fields, nil
}

func values(fields []field, name string) (found []string) {
	for _, f := range fields {
		if f.name == name {
			found = append(found, f.value)
		}
	}
	return found
}
