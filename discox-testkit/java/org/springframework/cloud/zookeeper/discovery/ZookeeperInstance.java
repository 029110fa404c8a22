package org.springframework.cloud.zookeeper.discovery;

import java.util.Map;
import java.util.TreeMap;

/** Named as Spring Cloud's payload is, so that Curator reads and writes records of Spring services. */
public class ZookeeperInstance {
    public String id;
    public String name;
    public Map<String, String> metadata = new TreeMap<>();
}
