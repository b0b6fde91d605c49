"""The tutorial's edge-triggered epoll server, its faults kept; its first printed line is ours."""

import select
import socket
import sys


def main():
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("", int(sys.argv[1])))
    server.listen(10)
    print(f"listening on 127.0.0.1:{server.getsockname()[1]}", flush=True)
    epoll = select.epoll()
    epoll.register(server.fileno(), select.EPOLLIN | select.EPOLLET)
    sockets = {}
    addresses = {}
    while True:
        for fd, event in epoll.poll():
            if fd == server.fileno():
                client, address = server.accept()
                print("client:", address)
                sockets[client.fileno()] = client
                addresses[client.fileno()] = address
                epoll.register(client.fileno(), select.EPOLLIN | select.EPOLLET)
            elif event == select.EPOLLIN:
                data = sockets[fd].recv(1024)
                if len(data) == 0:
                    print("client gone:", addresses[fd])
                    epoll.unregister(fd)
                    sockets[fd].close()
                else:
                    print("from", addresses[fd], ":", data)
                    sockets[fd].send(data)


if __name__ == "__main__":
    main()
