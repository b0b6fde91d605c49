"""The tutorial's select server, its faults kept; its first printed line is ours."""

import select
import socket
import sys


def main():
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("", int(sys.argv[1])))
    server.listen(5)
    print(f"listening on 127.0.0.1:{server.getsockname()[1]}", flush=True)
    sockets = [server]
    while True:
        readable, _, _ = select.select(sockets, [], [])
        for sock in readable:
            if sock == server:
                client, address = server.accept()
                print("client:", address)
                sockets.append(client)
                continue
            data = sock.recv(1024)
            if len(data) == 0:
                print("client gone:", address)
                sock.close()
                sockets.remove(sock)
            else:
                print("from", address, ":", data)


if __name__ == "__main__":
    main()
