// The server: it gives back a file for each that it is sent, and streams as many as it is asked for.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/edwarnicke/grpcfd"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

type mirror struct{ dir string }

func serve(socket string, tls []string) error {
	creds := insecure.NewCredentials()
	if len(tls) == 2 {
		var err error
		if creds, err = credentials.NewServerTLSFromFile(tls[0], tls[1]); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp("", "nigh-interop-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer(grpc.Creds(grpcfd.TransportCredentials(creds)))
	server.RegisterService(&description, &mirror{dir})
	return server.Serve(listener)
}

var description = grpc.ServiceDesc{
	ServiceName: "nigh.test.v1.Files",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "Swap",
		Handler: func(service any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			request := new(wrapperspb.BytesValue)
			if err := decode(request); err != nil {
				return nil, err
			}
			return service.(*mirror).echo(ctx, request)
		},
	}},
	Streams: []grpc.StreamDesc{{
		StreamName:    "Many",
		ServerStreams: true,
		Handler: func(service any, stream grpc.ServerStream) error {
			request := new(wrapperspb.UInt32Value)
			if err := stream.RecvMsg(request); err != nil {
				return err
			}
			return service.(*mirror).download(stream, request.Value)
		},
	}, {
		StreamName:    "Chat",
		ClientStreams: true,
		ServerStreams: true,
		Handler: func(service any, stream grpc.ServerStream) error {
			return service.(*mirror).chat(stream)
		},
	}},
}

func (m *mirror) echo(ctx context.Context, request *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
	transceiver, ok := grpcfd.FromContext(ctx)
	if !ok {
		return nil, status.Error(codes.FailedPrecondition, "no grpcfd on this connection")
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	contents, err := receive(ctx, transceiver, request.Value)
	if err != nil {
		return nil, status.Error(codes.DeadlineExceeded, err.Error())
	}
	var urls []string
	for _, content := range contents {
		url, err := m.send(transceiver, "echo "+content)
		if err != nil {
			return nil, err
		}
		urls = append(urls, url)
	}
	return wrapperspb.Bytes([]byte(strings.Join(urls, "\n"))), nil
}

func (m *mirror) download(stream grpc.ServerStream, count uint32) error {
	transceiver, ok := grpcfd.FromContext(stream.Context())
	if !ok {
		return status.Error(codes.FailedPrecondition, "no grpcfd on this connection")
	}
	for number := range count {
		url, err := m.send(transceiver, fmt.Sprintf("download %d", number))
		if err != nil {
			return err
		}
		if err := stream.SendMsg(wrapperspb.Bytes([]byte(url))); err != nil {
			return err
		}
	}
	return nil
}

func (m *mirror) chat(stream grpc.ServerStream) error {
	for {
		request := new(wrapperspb.BytesValue)
		if err := stream.RecvMsg(request); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		answer, err := m.echo(stream.Context(), request)
		if err != nil {
			return err
		}
		if err := stream.SendMsg(answer); err != nil {
			return err
		}
	}
}

func (m *mirror) send(to grpcfd.FDSender, name string) (string, error) {
	file, err := namedFile(m.dir, name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	to.SendFile(file)
	return urlOf(file)
}
